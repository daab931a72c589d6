"""Tests a trained model on a split: every video once, frames and crops as the recipe says.

    python eval.py --config configs/ssv2_aia_tsm.py --workdir runs/ssv2_aia_tsm

Takes the best checkpoint by validation top-1, writes eval.json into the workdir and prints one
line. Exit status: 0 every video was evaluated, 1 some were damaged (bad_records.txt names them) and
the rest was, 2 the input is wrong.
"""

import argparse
import dataclasses
import json
import sys

import jax

from aia_jax import config as configs
from aia_jax import sharding
from aia_jax.checkpoints.files import check_model, load_weights, read_meta
from aia_jax.checkpoints.trained_run import choose_step
from aia_jax.compile_cache import compiler_options, use_compile_cache
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.errors import EXIT_FAILED, UserError, exit_status
from aia_jax.evaluation.evaluate import RESULT_FILE, evaluate
from aia_jax.evaluation.step import make_eval_step
from aia_jax.files import write_text
from aia_jax.models import model_from_config
from aia_jax.shards.damage_log import FILE_NAME, DamageLog
from aia_jax.shards.dataset_info import check_against_config, open_dataset
from aia_jax.shards.manifest import compare_manifest
from aia_jax.shards.reader import open_split


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step",
        default="best",
        metavar="STEP",
        help="checkpoint to test: a step, best (default), or latest",
    )
    parser.add_argument("--split", help="split to test (default: the recipe's data.val_split)")


def main(argv: list[str] | None = None) -> int:
    options = configs.parse(argv, __doc__.splitlines()[0], add_flags)
    config, workdir, data = options.config, options.workdir, options.config.data

    use_compile_cache(config.compile_cache)

    # ---- Mesh: all devices of all hosts ----------------------------------------------------------

    sharding.initialise_hosts()
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")

    # ---- Data: one split, every video of it once -------------------------------------------------

    split = options.split or data.val_split
    info, reader = open_dataset(data.dir, data.label), open_split(data.dir, split)
    check_against_config(info, data.num_classes, {split: reader.index})
    for note in compare_manifest(info, (split,), data.resize):
        print(f"note: {note}")
    host_index, host_count = sharding.host_block(mesh)
    batches = eval_batches(
        reader,
        config.eval.batch_size,
        data.num_frames,
        data.crop,
        config.eval.protocol,
        resize=data.resize,
        label=data.label,
        host_index=host_index,
        host_count=host_count,
        workers=data.workers,
        threads=data.threads,
        prefetch=data.prefetch,
    )

    # ---- Network, and the weights of a checkpoint ------------------------------------------------

    model = model_from_config(config)
    folder = workdir / "checkpoints"
    step = choose_step(folder, options.step)
    meta = read_meta(folder, step)
    if list(meta["class_names"]) != list(info.class_names):
        raise UserError(
            f"{data.dir} does not name the classes that {folder} was trained on; use the run's data"
        )
    clips = jax.ShapeDtypeStruct((1, data.num_frames, data.crop, data.crop, 3), "float32")
    weights = load_weights(folder, step)
    check_model(folder, step, weights, jax.eval_shape(model.init, jax.random.key(0), clips))
    on_every_device = sharding.replicated(mesh)
    variables = jax.device_put(weights, on_every_device)
    trained_frames = json.loads(meta["config"])["data"]["num_frames"]
    if trained_frames != data.num_frames:
        print(f"note: trained with {trained_frames} frames a clip, tested with {data.num_frames}")

    # ---- Evaluation, with a list of the damaged records ------------------------------------------

    first_process = jax.process_index() == 0
    # Each host lists the damaged records that it met.
    damage_file = FILE_NAME if first_process else f"{jax.process_index()}_{FILE_NAME}"
    damage = DamageLog(workdir / damage_file, reader, data.damaged_share)
    eval_step = jax.jit(
        make_eval_step(model), out_shardings=on_every_device, compiler_options=compiler_options()
    )
    result = evaluate(
        eval_step, variables, prefetch_to_mesh(batches, mesh, data.prefetch), len(reader), damage
    )

    # ---- Result: eval.json and one line ----------------------------------------------------------

    report = dataclasses.asdict(result) | {
        "step": step,
        "split": split,
        "protocol": config.eval.protocol,
        "num_frames": data.num_frames,
        "config": options.config_name,
    }
    if first_process:
        path = workdir / RESULT_FILE
        write_text(path, json.dumps(report, indent=2) + "\n")
        print(
            f"step {step}, {split}, {config.eval.protocol}: top-1 {result.top1:.2%}, top-5 "
            f"{result.top5:.2%}, loss {result.loss:.4f}, "
            f"{result.evaluated:,} of {result.expected:,} videos evaluated; {path}"
        )
    if result.evaluated < result.expected:
        print(
            f"error: {result.expected - result.evaluated} videos are damaged; "
            f"{workdir / damage_file} names them",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
