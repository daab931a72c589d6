"""Trains a recipe, or goes on with a run that was stopped.

    python train.py --config configs/ssv2_aia_tsm.py --config.init_from=weights/imagenet
    python train.py --config configs/demo.py --workdir runs/mine --config.optim.lr=0.05

The same command on the same workdir goes on exactly from the last checkpoint. Exit status:
0 finished, 2 the input is wrong (one line says what to change; checkpoints that were saved before
stay), 75 stopped by SIGTERM or Ctrl-C and saved, 1 anything else. SIGTERM and Ctrl-C save once
steps are being taken; on several hosts SIGTERM alone does.
"""

import argparse
import dataclasses
import sys

import jax

from aia_jax import complexity, sharding
from aia_jax import config as configs
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.compile_cache import compiler_options, use_compile_cache
from aia_jax.data.augment import TrainTransform, flip_pairs
from aia_jax.data.pipeline import eval_batches, train_batches
from aia_jax.data.plan import BatchPlan, training_records
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.errors import RunFailed, Stopped, exit_status
from aia_jax.evaluation.evaluate import evaluate
from aia_jax.evaluation.step import make_eval_step
from aia_jax.models import training_model
from aia_jax.shards.damage_log import FILE_NAME, DamageLog
from aia_jax.shards.dataset_info import check_against_config, open_dataset
from aia_jax.shards.manifest import compare_manifest
from aia_jax.shards.reader import open_split
from aia_jax.training import startup
from aia_jax.training.curves import CURVES_FILE, draw_curves
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.log import METRICS_FILE, NonFiniteLoss, RunLog
from aia_jax.training.methods import make_method
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.profile import PROFILE_DIR, DeviceIdle, Profile
from aia_jax.training.stop import StopRequest
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

    sharding.initialise_hosts()
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.train.batch_size, "train.batch_size", config.train.accumulate)
    sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")
    first_process = jax.process_index() == 0
    key = jax.random.key(config.seed)

    # ---- Data: two splits, the plan of all batches, what a row goes through ----------------------

    data = config.data
    info = open_dataset(data.dir, data.label)
    train_reader = open_split(data.dir, data.train_split)
    val_reader = open_split(data.dir, data.val_split)
    check_against_config(
        info,
        data.num_classes,
        {data.train_split: train_reader.index, data.val_split: val_reader.index},
    )
    notes = compare_manifest(info, (data.train_split, data.val_split), data.resize)
    records, too_short = training_records(train_reader)
    plan = BatchPlan(records, config.train.batch_size, config.seed)
    transform = TrainTransform(
        data.num_frames,
        data.crop,
        flip_pairs(info.class_names).partner,
        resize=data.resize,
        scales=data.scales,
        flip=data.flip,
    )
    host_index, host_count = sharding.host_block(mesh)
    loading = {
        "label": data.label,
        "host_index": host_index,
        "host_count": host_count,
        "workers": data.workers,
        "threads": data.threads,
        "prefetch": data.prefetch,
    }
    clip_shape = (data.num_frames, data.crop, data.crop, 3)

    # ---- Network, optimiser, and the method that brings them together ----------------------------

    model = training_model(config)
    frozen = frozen_rule(config.train.freeze, config.train.partial_bn)
    tx, learning_rate = make_optimizer(
        config.optim, plan.steps_per_epoch, config.train.batch_size, frozen
    )
    method = make_method(config, model, tx, frozen)

    # ---- State: created on the mesh, or restored to it -------------------------------------------

    startup.make_workdir(workdir)
    checkpoints = Checkpoints(workdir / "checkpoints")
    if options.resume_from is not None:
        later = ", ".join(map(str, checkpoints.rewind(options.resume_from))) or "nothing"
        print(f"going back to step {options.resume_from}; set aside: {later}")
    weights_report = None
    if checkpoints.steps():
        clips = jax.ShapeDtypeStruct((1, *clip_shape), "float32")
        shapes = jax.eval_shape(method.create, jax.eval_shape(model.init, key, clips), key)
        state_shardings = sharding.state_shardings(mesh, shapes)
        targets = jax.tree.map(
            lambda leaf, on: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on),
            shapes,
            state_shardings,
        )
        state, meta = checkpoints.restore_latest(targets)
        notes += startup.compare_with_checkpoint(config, info.class_names, meta)
    else:
        variables, weights_report = initial_variables(config, model, key, info.class_names)
        state_shardings = sharding.state_shardings(
            mesh, jax.eval_shape(method.create, variables, key)
        )
        state = jax.jit(method.create, out_shardings=state_shardings)(variables, key)

    start_step = int(state.step)
    steps_per_epoch, total_steps = plan.steps_per_epoch, plan.steps_per_epoch * config.train.epochs

    # ---- Steps: two jitted functions over the mesh -----------------------------------------------

    def step_and_rate(state, batch, key):
        new_state, metrics = method.step(state, batch, key)
        return new_state, metrics | {"lr": learning_rate(state.step)}

    on_every_device = sharding.replicated(mesh)
    train_step = jax.jit(
        step_and_rate,
        out_shardings=(state_shardings, on_every_device),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    eval_step = jax.jit(
        make_eval_step(model), out_shardings=on_every_device, compiler_options=compiler_options()
    )

    # ---- What the run says of itself: a table, run.json ------------------------------------------

    startup.save_provenance(workdir, config, start_step)
    counts = complexity.count(model, clip_shape)
    table = startup.start_table(
        config,
        network=model.describe(),
        found={data.train_split: len(train_reader), data.val_split: len(val_reader)},
        classes=len(info.class_names),
        params=counts.params,
        macs=counts.macs,
        mesh=mesh,
        steps_per_epoch=steps_per_epoch,
        start_step=start_step,
        compile_cache=compile_cache,
    )
    startup.print_table(table)
    if len(too_short):
        notes.append(f"{len(too_short)} training videos have fewer than 3 frames and are not used")
    if config.profile.start > total_steps:
        notes.append(
            f"nothing will be traced: profile.start={config.profile.start} is past the last step, "
            f"{total_steps}"
        )

    # ---- Loop: until the last step, a request to stop, or a loss that is not finite --------------

    # Each host lists the damaged records that it met.
    damage_file = FILE_NAME if first_process else f"{jax.process_index()}_{FILE_NAME}"
    train_damage = DamageLog(workdir / damage_file, train_reader, data.damaged_share)
    val_damage = DamageLog(workdir / damage_file, val_reader, data.damaged_share)
    batches = train_batches(train_reader, plan, transform, start_step=start_step, **loading)
    with (
        StopRequest() as stop,
        checkpoints,
        RunLog(
            workdir,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            start_step=start_step,
            log_every=config.train.log_every,
            tensorboard=config.log.tensorboard,
        ) as log,
        prefetch_to_mesh(batches, mesh, data.prefetch) as batches,
        Profile(workdir / PROFILE_DIR, config.profile.start, config.profile.stop) as profile,
    ):

        def save(step, metrics=None, *, replace=False):
            """Starts a checkpoint of `state`, in which every step up to `step` is finite."""
            log.flush()  # raises NonFiniteLoss, so a bad state never takes a good one's place
            meta = {
                "config": configs.to_json(config),
                "class_names": info.class_names,
                "position": step,
                "metrics": metrics,
            }
            checkpoints.save(step, state, meta, replace=replace)

        def save_and_stop(step):
            save(step)
            checkpoints.wait()
            raise Stopped(f"after step {step}, saved; run the same command again to go on")

        def validate():
            """Metrics of the validation split; None if the run is asked to stop meanwhile."""
            if stop.now:
                return None
            log.status("validating")
            split = eval_batches(
                val_reader,
                config.eval.batch_size,
                data.num_frames,
                data.crop,
                resize=data.resize,
                **loading,
            )
            result = evaluate(
                eval_step,
                state.eval_variables(),
                prefetch_to_mesh(split, mesh),
                len(val_reader),
                val_damage,
                lambda: stop.now,
            )
            return result and dataclasses.asdict(result)

        def finish_epoch(step, *, saved=False):
            """Validates and saves; `saved`: the step has a checkpoint, which gets the metrics."""
            log.flush()
            metrics = validate()
            if metrics is None and saved:
                raise Stopped(f"after step {step}, saved; run the same command again to go on")
            if metrics is None:
                save_and_stop(step)
            log.validation(step, metrics)
            save(step, metrics, replace=saved)
            if first_process:
                draw_curves(workdir / METRICS_FILE, workdir / CURVES_FILE)

        if weights_report is not None:
            log.message(f"from {config.init_from}:\n{weights_report}")
        for note in notes:
            log.message(f"note: {note}")
        try:
            # The run was stopped between the last step of an epoch and the end of its validation.
            validated = log.last_row("validation")
            at_epoch_end = start_step > 0 and start_step % steps_per_epoch == 0
            if at_epoch_end and (validated is None or validated["step"] != start_step):
                finish_epoch(start_step, saved=True)

            waited, idle = 0.0, DeviceIdle()
            for step in range(start_step + 1, total_steps + 1):
                profile.before(step)
                batch = next(batches)
                train_damage.add(batch["damaged"].ravel())
                idle.before_step()
                state, metrics = train_step(
                    state, {"clips": batch["clips"], "labels": batch["labels"]}, key
                )
                # The log reads a step's metrics when later steps are on the devices already.
                log.train(
                    step,
                    metrics,
                    clips=batch["labels"].shape[0],
                    data_wait=batches.wait_seconds - waited,
                    device_idle=idle.after_step(metrics),
                )
                waited = batches.wait_seconds
                if profile.after(step, metrics):
                    log.message(f"a trace up to step {step} is in {profile.folder}")

                # Every host must ask `stop.at` at the same steps: they agree on the answer.
                if step % steps_per_epoch == 0:
                    finish_epoch(step)
                elif stop.at(step):
                    save_and_stop(step)
                elif config.train.checkpoint_every and step % config.train.checkpoint_every == 0:
                    save(step)
            checkpoints.wait()
        except NonFiniteLoss as bad:
            videos = map(train_reader.index.video_id, plan.records(bad.step - 1))
            good = checkpoints.steps()
            last = "there is no checkpoint yet"
            if good:
                last = f"the last good checkpoint is step {good[-1]}"
            raise RunFailed(
                f"{bad}: its batch held {', '.join(videos)}; {last} in {checkpoints.directory}; "
                "try a lower --config.optim.lr, or look at these videos"
            ) from bad
        log.message(
            f"finished; checkpoints in {checkpoints.directory}, the best is step "
            f"{checkpoints.best_step()}; curves in {workdir / CURVES_FILE}"
        )


if __name__ == "__main__":
    sys.exit(exit_status(main))
