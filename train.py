"""Trains a recipe, or goes on with a run that was stopped.

    python train.py --config configs/ssv2_aia_tsm.py --config.init_from=weights/imagenet
    python train.py --config configs/demo.py --workdir runs/mine --config.optim.lr=0.05

The same command on the same workdir goes on exactly from the last checkpoint. Exit status:
0 finished (early too, by train.patience), 2 the input is wrong (one line says what to change;
checkpoints that were saved before stay), 75 stopped by SIGTERM or Ctrl-C and saved, 1 anything
else. SIGTERM and Ctrl-C save once steps are being taken; on several hosts SIGTERM alone does.
"""

import argparse
import sys

import jax

from aia_jax import complexity, hosts, models, sharding
from aia_jax import config as configs
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.checkpoints.ranking import choose_metric
from aia_jax.compile_cache import compiler_options, use_compile_cache
from aia_jax.data.pipeline import eval_batches, train_batches
from aia_jax.data.prefetch import WaitStopped, prefetch_to_mesh
from aia_jax.errors import RunFailed, Stopped, exit_status
from aia_jax.evaluation.evaluate import evaluate, try_eval_batch
from aia_jax.evaluation.step import make_eval_step
from aia_jax.memory import evaluation_advice, memory_advice, training_advice
from aia_jax.processes.silence import WorkerLost
from aia_jax.training import startup
from aia_jax.training.curves import CURVES_FILE, draw_curves
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.log import NonFiniteLoss, RunLog
from aia_jax.training.methods import make_method
from aia_jax.training.metrics_file import METRICS_FILE
from aia_jax.training.objective import make_objective
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.profile import PROFILE_DIR, Profile, StepClock
from aia_jax.training.resume import choose_checkpoint, with_shardings
from aia_jax.training.run_data import open_run_data
from aia_jax.training.stop import StopRequest
from aia_jax.training.validations import Validations, describe_end
from aia_jax.training.workdir import WorkdirLock, make_workdir, open_damage_log
from aia_jax.weights.init_from import check_init_from, initial_variables


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume_from",
        type=int,
        metavar="STEP",
        help="go on from this checkpoint and set later ones aside (default: the latest)",
    )


def main(argv: list[str] | None = None) -> None:
    options = configs.parse(argv, __doc__.splitlines()[0], add_flags)
    config, workdir = options.config, options.workdir
    check_init_from(config, options.config_path)
    compile_cache = use_compile_cache(config.compile_cache)

    # ---- Mesh: all devices of all hosts ----------------------------------------------------------

    hosts.initialise_hosts()
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.train.batch_size, "train.batch_size", config.train.accumulate)
    sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")
    key = jax.random.key(config.seed)

    # ---- Data: two splits, the plan of all batches, what a row goes through ----------------------

    data = open_run_data(config, mesh)
    notes, class_names = list(data.notes), data.info.class_names
    steps_per_epoch = data.plan.steps_per_epoch
    total_steps = steps_per_epoch * config.train.epochs
    best_by = choose_metric(config.train.best_by, config.data.label_kind)

    # ---- Network, optimiser, and the method that brings them together ----------------------------

    model = models.training_model(config)
    clip_shape = models.clip_shape(model, config.data.crop)
    partial_bn = model.partial_bn_frozen if config.train.partial_bn else ""
    frozen = frozen_rule(config.train.freeze, partial_bn)
    tx, learning_rate = make_optimizer(
        config.optim,
        steps_per_epoch,
        config.train.batch_size,
        frozen,
        epochs=config.train.epochs,
        layers=getattr(model, "layer_paths", ()),
    )
    objective = make_objective(config, data.training_labels, len(class_names))
    method = make_method(config, model, tx, frozen, objective)

    # ---- State: created on the mesh, or restored to it -------------------------------------------

    make_workdir(workdir)
    lock = WorkdirLock(workdir)
    notes += lock.notes
    train_damage = open_damage_log(workdir, data.train, config.data.damaged_share)
    val_damage = open_damage_log(workdir, data.validation, config.data.damaged_share)
    checkpoints = Checkpoints(workdir / "checkpoints", best_by=best_by)
    meta, resume_notes = choose_checkpoint(
        checkpoints, options.resume_from, config, class_names, data.description, total_steps
    )
    notes += resume_notes
    weights_report = None
    if meta:
        clips = jax.ShapeDtypeStruct((1, *clip_shape), "float32")
        shapes = jax.eval_shape(method.create, jax.eval_shape(model.init, key, clips), key)
        state_shardings = sharding.state_shardings(mesh, shapes)
        state, meta = checkpoints.restore_latest(with_shardings(shapes, state_shardings))
    else:
        variables, weights_report = initial_variables(config, model, key, class_names)
        state_shardings = sharding.state_shardings(
            mesh, jax.eval_shape(method.create, variables, key)
        )
        state = jax.jit(method.create, out_shardings=state_shardings)(variables, key)

    start_step = int(state.step)
    validations = Validations(best_by, config.train.patience, meta)

    # ---- Steps: two jitted functions over the mesh -----------------------------------------------

    def step_and_rate(state, batch, key):
        new_state, metrics = method.step(state, batch, key)
        return new_state, metrics | {"lr": learning_rate(state.step)}

    on_every_device = sharding.replicated(mesh)
    train_step = jax.jit(
        sharding.on_mesh(mesh, step_and_rate),
        out_shardings=(state_shardings, on_every_device),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    eval_step = jax.jit(
        sharding.on_mesh(mesh, make_eval_step(model, objective.multilabel)),
        out_shardings=on_every_device,
        compiler_options=compiler_options(),
    )

    # ---- What the run says of itself: a table, run.json ------------------------------------------

    startup.save_provenance(workdir, config, start_step)
    counts = complexity.count(model, clip_shape)
    table = startup.start_table(
        config,
        network=model.describe(),
        method=method.text,
        clip_shape=clip_shape,
        found={
            config.data.train_split: len(data.train),
            config.data.val_split: len(data.validation),
        },
        classes=len(class_names),
        params=counts.params,
        macs=counts.macs,
        mesh=mesh,
        steps_per_epoch=steps_per_epoch,
        start_step=start_step,
        compile_cache=compile_cache,
    )
    startup.print_table(table)
    notes += startup.notes_on_plan(
        config, data.too_short, model.segment_frames, total_steps, method.old_share
    )

    # ---- Loop: to the last step or an early end, a request to stop, a loss that is not finite ----

    batches = train_batches(
        data.train, data.plan, data.transform, start_step=start_step, **data.loading
    )
    with (
        memory_advice(lambda: training_advice(config)),
        StopRequest() as stop,
        lock,
        checkpoints,
        RunLog(
            workdir,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            start_step=start_step,
            log_every=config.train.log_every,
            tensorboard=config.log.tensorboard,
        ) as log,
        prefetch_to_mesh(batches, mesh, config.data.prefetch, lambda: stop.now) as batches,
        Profile(workdir / PROFILE_DIR, config.profile.start, config.profile.stop) as profile,
    ):

        def save(step):
            """Starts a checkpoint of `state`, in which every step up to `step` is finite."""
            log.flush()  # raises NonFiniteLoss, so a bad state never takes a good one's place
            lock.check()
            meta = {
                "config": configs.to_json(config),
                "recipe": {"config": options.config_name, "overrides": options.overrides},
                "class_names": class_names,
                "data": data.description,
                "position": step,
                "metrics": None,  # `finish_epoch` adds them
                "best_by": best_by,
                "validations": validations.rows,  # those before this step's
            }
            checkpoints.save(step, state, meta)

        def stop_after(step):
            """Ends the run, once the checkpoint of `step` is written."""
            checkpoints.wait()
            raise Stopped(f"after step {step}, saved; run the same command again to go on")

        def next_batch(step):
            """The batch of `step`; if the run ends while it waits for one, it is saved first."""
            try:
                return next(batches)
            except WaitStopped:
                if step == 1:
                    raise Stopped("before the first step; run the same command again") from None
                save(step - 1)
                stop_after(step - 1)
            except WorkerLost as lost:
                again, last = "run the same command again to go on", "from the last checkpoint"
                # Several hosts cannot save here: the others wait for this one in the step.
                if step > 1 and jax.process_count() == 1:
                    save(step - 1)
                    checkpoints.wait()
                    last = f"from step {step - 1}, which is saved"
                raise RunFailed(f"{lost}; {again} {last}") from lost

        def validate():
            """Metrics of the validation split; None if the run is asked to stop meanwhile."""
            if stop.now:
                return None
            log.status("validating")
            split = eval_batches(
                data.validation,
                config.eval.batch_size,
                config.data.num_frames,
                config.data.crop,
                **data.frames,
                **data.loading,
            )
            result = evaluate(
                eval_step,
                state.eval_variables(),
                prefetch_to_mesh(split, mesh, stopped=lambda: stop.now),
                len(data.validation),
                val_damage,
                lambda: stop.now,
            )
            return result and result.to_json()

        def finish_epoch(step):
            """Validates the step, which has been saved, and writes the metrics beside its state."""
            if step // steps_per_epoch % config.train.val_every and step < total_steps:
                return
            metrics = validate()
            if metrics is None:
                stop_after(step)
            checkpoints.add_metrics(step, metrics)
            validations.add(step, metrics)
            show_validation(step, metrics)

        def show_validation(step, metrics):
            log.validation(step, metrics)
            if jax.process_index() == 0:
                draw_curves(workdir / METRICS_FILE, workdir / CURVES_FILE)

        if weights_report is not None:
            log.message(f"from {config.init_from}:\n{weights_report}")
        for note in notes:
            log.message(f"note: {note}")
        try:
            if start_step < total_steps and not validations.end_run(start_step):
                # A batch that memory cannot hold shows before the first step, not after an epoch.
                with memory_advice(lambda: evaluation_advice(config)):
                    try_eval_batch(
                        eval_step,
                        state.eval_variables(),
                        mesh,
                        config.eval.batch_size,
                        clip_shape,
                        objective.label_shape,
                    )

            # The run was stopped between the last step of an epoch and the end of its validation.
            validated = log.last_row("validation")
            if start_step > 0 and start_step % steps_per_epoch == 0:
                if meta["metrics"] is None:
                    finish_epoch(start_step)
                elif validated is None or validated["step"] != start_step:
                    show_validation(start_step, meta["metrics"])

            step, waited, clock = start_step, 0.0, StepClock()
            while step < total_steps and not validations.end_run(step):
                step += 1
                profile.before(step)
                batch = next_batch(step)
                train_damage.add(batch["damaged"].ravel())
                clock.before_step()
                state, metrics = train_step(
                    state, {"clips": batch["clips"], "labels": batch["labels"]}, key
                )
                # The log reads a step's metrics when later steps are on the devices already.
                log.train(
                    step,
                    metrics,
                    clips=batch["labels"].shape[0],
                    data_wait=batches.wait_seconds - waited,
                    times=clock.after_step(metrics),
                )
                waited = batches.wait_seconds
                if profile.after(step, metrics):
                    log.message(f"a trace up to step {step} is in {profile.folder}")

                # The hosts agree on the one step at which they stop: each asks at every step.
                stops, ends_epoch = stop.at(step), step % steps_per_epoch == 0
                every = config.train.checkpoint_every
                # An epoch is saved before its validation, so what goes wrong there costs nothing.
                if stops or ends_epoch or (every and step % every == 0):
                    save(step)
                if stops:
                    stop_after(step)
                if ends_epoch:
                    finish_epoch(step)
            checkpoints.wait()
        except NonFiniteLoss as bad:
            videos = map(data.train.index.video_id, data.plan.records(bad.step - 1))
            good = checkpoints.steps()
            lower = " or ".join(f"--config.{key}" for key in method.rates)
            last = "there is no checkpoint yet"
            if good:
                last = f"the last good checkpoint is step {good[-1]}"
            raise RunFailed(
                f"{bad}: its batch held {', '.join(videos)}; {last} in {checkpoints.directory}; "
                f"try a lower {lower}, or look at these videos"
            ) from bad
        best_step = checkpoints.best_step()
        log.message(describe_end(validations, best_step, step, total_steps, workdir))


if __name__ == "__main__":
    sys.exit(hosts.leave(exit_status(main)))
