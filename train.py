"""Trains a recipe, or goes on with a run that was stopped.

    python train.py --config configs/ssv2_aia_tsm.py --config.init_from=weights/imagenet
    python train.py --config configs/demo.py --workdir runs/mine --config.optim.lr=0.05

The same command on the same workdir goes on exactly where the last checkpoint is. Exit status: 0
finished, 2 the input is wrong (one line says what to change; checkpoints that were saved before
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
from aia_jax.data.augment import TrainTransform
from aia_jax.data.pipeline import eval_batches, train_batches
from aia_jax.data.plan import BatchPlan, training_records
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.errors import exit_status
from aia_jax.evaluation.evaluate import evaluate
from aia_jax.models.from_config import model_from_config
from aia_jax.shards.damage_log import FILE_NAME, DamageLog
from aia_jax.shards.dataset_info import check_against_config, flip_pairs, open_dataset
from aia_jax.shards.manifest import compare_manifest
from aia_jax.shards.reader import open_split
from aia_jax.training import startup
from aia_jax.training.curves import CURVES_FILE, draw_curves
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.log import METRICS_FILE, RunLog
from aia_jax.training.loop import Course, Parts, train
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.profile import PROFILE_DIR, Profile
from aia_jax.training.startup import compare_with_checkpoint
from aia_jax.training.state import TrainState
from aia_jax.training.step import make_eval_step, make_train_step
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

    # ---- mesh: all devices of all hosts
    sharding.initialise_hosts()
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.train.batch_size, "train.batch_size", config.train.accumulate)
    sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")
    first_process = jax.process_index() == 0
    own_file = (
        FILE_NAME if first_process else f"{jax.process_index()}_{FILE_NAME}"
    )  # of damaged records that this host met
    key = jax.random.key(config.seed)

    # ---- data: two splits, the plan of all batches, what a row goes through
    data = config.data
    info = open_dataset(data.dir, data.label)
    train_reader, val_reader = (
        open_split(data.dir, data.train_split),
        open_split(data.dir, data.val_split),
    )
    check_against_config(
        info,
        data.num_classes,
        {data.train_split: train_reader.index, data.val_split: val_reader.index},
    )
    notes = compare_manifest(info, (data.train_split, data.val_split), data.resize)
    usable, too_short = training_records(train_reader)
    plan = BatchPlan(usable, config.train.batch_size, config.seed)
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

    # ---- model
    model = model_from_config(config).clone(
        partial_bn=config.train.partial_bn,
        bn_group_size=config.train.bn_group_size,
        remat=config.train.remat,
    )
    counts = complexity.count(model, clip_shape)

    # ---- state: made on the mesh, or restored to it
    startup.make_workdir(workdir)
    checkpoints = Checkpoints(workdir / "checkpoints")
    frozen = frozen_rule(config.train.freeze, config.train.partial_bn)
    optimizer, learning_rate = make_optimizer(
        config.optim, plan.steps_per_epoch, config.train.batch_size, frozen
    )

    def create(variables):
        return TrainState.create(variables, optimizer, ema=config.train.ema_decay > 0)

    if options.resume_from is not None:
        aside = checkpoints.rewind(options.resume_from)
        print(
            f"going back to step {options.resume_from}; set aside: "
            f"{', '.join(map(str, aside)) or 'nothing'}"
        )
    report = None
    if checkpoints.steps():
        clips = jax.ShapeDtypeStruct((1, *clip_shape), "float32")
        shapes = jax.eval_shape(create, jax.eval_shape(model.init, key, clips))
        places = sharding.state_shardings(mesh, shapes)
        targets = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            shapes,
            places,
        )
        state, meta = checkpoints.restore_latest(targets)
        notes += compare_with_checkpoint(config, info.class_names, meta)
    else:
        variables, report = initial_variables(config, model, key, info.class_names)
        places = sharding.state_shardings(mesh, jax.eval_shape(create, variables))
        state = jax.jit(create, out_shardings=places)(variables)
    start_step = int(state.step)

    # ---- step: one jitted function over the mesh
    whole = sharding.replicated(mesh)
    step = make_train_step(
        model,
        optimizer,
        accumulate=config.train.accumulate,
        label_smoothing=config.train.label_smoothing,
        ema_decay=config.train.ema_decay,
        frozen=frozen,
    )

    def step_and_rate(state, batch, key):
        new_state, metrics = step(state, batch, key)
        return new_state, metrics | {"lr": learning_rate(state.step)}

    train_step = jax.jit(
        step_and_rate,
        out_shardings=(places, whole),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    eval_step = jax.jit(
        make_eval_step(model), out_shardings=whole, compiler_options=compiler_options()
    )

    # ---- loop: until the last step, a request to stop, or a loss that is not finite
    course = Course(
        start_step,
        plan.steps_per_epoch,
        plan.steps_per_epoch * config.train.epochs,
        config.train.checkpoint_every,
    )
    train_damage = DamageLog(workdir / own_file, train_reader, data.damaged_share)
    val_damage = DamageLog(workdir / own_file, val_reader, data.damaged_share)

    def validate(state):
        batches = eval_batches(
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
            prefetch_to_mesh(batches, mesh),
            len(val_reader),
            val_damage,
            lambda: stop.now,
        )
        return result and dataclasses.asdict(result)

    def save(step, state, metrics, *, replace=False):
        meta = {
            "config": configs.to_json(config),
            "class_names": info.class_names,
            "position": step,
            "metrics": metrics,
        }
        checkpoints.save(step, state, meta, replace=replace)

    def describe_batch(step):
        videos = ", ".join(train_reader.index.video_id(record) for record in plan.records(step - 1))
        good = checkpoints.steps()
        last = (
            f"the last good checkpoint is step {good[-1]}" if good else "there is no checkpoint yet"
        )
        return f"its batch held {videos}; {last} in {checkpoints.directory}; try a lower --config.optim.lr, or look at these videos"

    parts = Parts(
        train_step=train_step,
        validate=validate,
        save=save,
        finish_saving=checkpoints.wait,
        damaged=lambda records: train_damage.add(records.ravel()),
        describe_batch=describe_batch,
        after_epoch=lambda: (
            draw_curves(workdir / METRICS_FILE, workdir / CURVES_FILE) if first_process else None
        ),
        profile=Profile(workdir / PROFILE_DIR, config.profile.start, config.profile.stop),
    )
    startup.save_provenance(workdir, config, start_step)
    startup.print_table(
        startup.start_table(
            config,
            found={data.train_split: len(train_reader), data.val_split: len(val_reader)},
            classes=len(info.class_names),
            params=counts.params,
            macs=counts.macs,
            mesh=mesh,
            steps_per_epoch=plan.steps_per_epoch,
            start_step=start_step,
            compile_cache=compile_cache,
        )
    )
    batches = train_batches(train_reader, plan, transform, start_step=start_step, **loading)
    with (
        StopRequest() as stop,
        checkpoints,
        RunLog(
            workdir,
            total_steps=course.total_steps,
            steps_per_epoch=course.steps_per_epoch,
            start_step=start_step,
            log_every=config.train.log_every,
            tensorboard=config.log.tensorboard,
        ) as log,
        prefetch_to_mesh(batches, mesh, data.prefetch) as batches,
        parts.profile,
    ):
        if report is not None:
            log.message(f"from {config.init_from}:\n{report}")
        if len(too_short):
            log.message(
                f"{len(too_short)} training videos have fewer than 3 frames and are not used"
            )
        for note in notes:
            log.message(f"note: {note}")
        if config.profile.start > course.total_steps:
            log.message(
                f"note: nothing will be traced: profile.start={config.profile.start} is past the "
                f"last step, {course.total_steps}"
            )
        train(state, key, batches, course, parts, log, stop)
        best = checkpoints.best_step()
        log.message(
            f"finished; checkpoints in {checkpoints.directory}, the best is step {best}; curves in "
            f"{workdir / CURVES_FILE}"
        )


if __name__ == "__main__":
    sys.exit(exit_status(main))
