"""Tests a trained model on a split: every video once, frames and crops as the run was trained.

    python eval.py --workdir runs/ssv2_aia_tsm
    python eval.py --workdir runs/ssv2_aia_tsm --views 2x3 --crop 256
    python eval.py --weights weights/ssv2_tsm --data data/ssv2 --views 10x3 --average probabilities
    python eval.py --weights weights/tsm_k400 --data data/kinetics400 --protocol published

Network, classes, geometry and data come from the run's checkpoint, the best by validation.
`--config.key=value` tests otherwise, which the printed line and the result say; it cannot make
another network of the weights. A recipe (`--config FILE`) gives what belongs to the machine, such
as eval.batch_size, and its name stands for `--workdir runs/NAME`.

`--weights` tests what convert_torch_weights.py wrote. `--protocol published` tests it as the
publisher of the weights did, and their number stands beside the result.

The scores of every video go to scores/, with their numbers beside them: files for each split,
protocol and step. eval.json is the last result. If the command is killed, the same command goes on
from the videos that have scores. Exit status: 0 every video was evaluated, 1 some were damaged
(bad_records.txt names them) and the rest was, 2 the input is wrong.
"""

import argparse
import contextlib
import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

from aia_jax import config as configs
from aia_jax import hosts, sharding
from aia_jax.checkpoints.last_result import RESULT_FILE, SCORES
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.compile_cache import compiler_options, use_compile_cache
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.data.sampling import short_video_notes
from aia_jax.data.views import PROTOCOLS, Views, check_crop, mirror_notes
from aia_jax.errors import EXIT_FAILED, UserError, exit_status
from aia_jax.evaluation.metrics import summarize
from aia_jax.evaluation.published import (
    find_published,
    follow_protocol,
    name_in_sources_order,
    published_notes,
)
from aia_jax.evaluation.result import (
    describe_result,
    describe_test,
    make_report,
    result_name,
    write_last,
)
from aia_jax.evaluation.run_scores import score_path, write_result
from aia_jax.evaluation.score_journal import ScoreJournal
from aia_jax.evaluation.scores import AVERAGING, identity
from aia_jax.evaluation.scoring import (
    choose_batch,
    keep_scores,
    remaining_rows,
    score_videos,
    shared_with_all_hosts,
)
from aia_jax.evaluation.step import make_view_step
from aia_jax.evaluation.tested_data import (
    check_label_kind,
    match_classes,
    true_labels,
    video_names,
)
from aia_jax.lock import FolderLock
from aia_jax.memory import evaluation_advice, memory_advice
from aia_jax.shards.dataset_info import check_against_config, open_dataset
from aia_jax.shards.fingerprint import compare_data, describe_data
from aia_jax.shards.manifest import compare_manifest
from aia_jax.shards.reader import open_split
from aia_jax.training.workdir import make_workdir, open_damage_log
from aia_jax.weights.open import open_weights
from aia_jax.weights.source_choice import card_of_folder


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step",
        default="best",
        metavar="STEP",
        help="checkpoint to test: a step, best (default), or latest",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="test this folder of convert_torch_weights.py instead of a run; needs --data",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of the classes of --weights, one a line or JSON (default: the folder's own)",
    )
    parser.add_argument(
        "--data", metavar="DIR", help="prepared data (default: the run's), as --config.data.dir"
    )
    parser.add_argument("--split", help="split to test (default: the run's data.val_split)")
    parser.add_argument(
        "--views",
        metavar="CLIPSxCROPS",
        help="of each video: 1, 2 or 10 clips × 1, 3, 5 or 10 crops (default: the run's "
        "eval.protocol, centre crop)",
    )
    parser.add_argument(
        "--crop",
        metavar="PIXELS",
        help="side of the crops and the network's input (default: the run's data.crop)",
    )
    parser.add_argument(
        "--average",
        metavar="WHAT",
        help="over the views of a video: logits (default) or probabilities",
    )
    parser.add_argument(
        "--protocol",
        metavar="WHOSE",
        help="published: frames, resize, views, crop and average as the publisher of --weights "
        "tested them",
    )
    parser.add_argument(
        "--view-scores", action="store_true", help="keep the logits of every view too"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the results (default: the run's, or --weights)"
    )


def main(argv: list[str] | None = None) -> int:
    options = configs.parse(
        argv, __doc__.splitlines()[0], add_flags, recipe_needed=False, instead="weights"
    )
    card = card_of_folder(options.weights) if options.weights else None
    if options.protocol:
        follow_protocol(options, card)
    averaging = options.average or "logits"
    if averaging not in AVERAGING:
        raise UserError(f"--average {averaging}: choose {' or '.join(AVERAGING)}")
    views = Views.parse(options.views) if options.views else None
    if options.data:
        options.overrides.append(f"data.dir={options.data}")

    # ---- The network: a checkpoint or converted weights, and the config with which it is tested --

    hosts.initialise_hosts()
    if options.weights:
        run = open_weights(
            options.weights, options.classes, overrides=options.overrides, recipe=options.config
        )
    elif options.classes:
        raise UserError("--classes names the classes of --weights; a run knows its own")
    else:
        run = open_run(
            options.workdir, options.step, overrides=options.overrides, recipe=options.config
        )
    out = Path(options.out or run.workdir)
    config, data = run.config, run.config.data
    views = views or Views.from_protocol(config.eval.protocol)
    crop, notes = check_crop(options.crop, data.crop, data.resize)
    if crop != data.crop:
        trained = run.overrides.get("data.crop", (data.crop,))[0]
        overrides = {**run.overrides, "data.crop": (trained, crop)}
        run = dataclasses.replace(run, overrides=overrides)
    use_compile_cache(config.compile_cache)
    first_process = jax.process_index() == 0

    # ---- Mesh: all devices of all hosts ----------------------------------------------------------

    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")
    batch = choose_batch(config.eval.batch_size, len(views), sharding.row_shards(mesh))

    # ---- Data: one split -------------------------------------------------------------------------

    split = options.split or data.val_split
    if not (data.dir or run.data.get("dir")):
        raise UserError("no data are named: name a folder of prepare_data.py with --data DIR")
    info, reader = open_dataset(run.data_dir, data.label), open_split(run.data_dir, split)
    run, order_notes = name_in_sources_order(run, card, info)
    check_label_kind(run, info, str(run.data_dir))
    run, label_of, class_notes = match_classes(run, info.class_names, str(run.data_dir))
    check_against_config(info, len(run.class_names), {split: reader.index})
    description = describe_data(info, {split: reader.index})
    on_purpose = data.changed_on_purpose or "data.dir" in run.overrides
    notes += [
        *run.notes,
        *order_notes,
        *class_notes,
        *mirror_notes(views, info.class_names),
        *compare_data(run.data, description, on_purpose=on_purpose),
        *compare_manifest(info, (split,), data.resize),
        *short_video_notes(
            reader.index.num_frames,
            data.num_frames,
            PROTOCOLS[views.clips],
            data.sampling,
            split,
            run.model.segment_frames,
        ),
    ]

    # ---- Results: whether they can be written, what is known already, what is known to be damaged

    flag = "--out" if options.out else "--weights" if options.weights else "--workdir"
    make_workdir(out, flag, "--out")
    damage = open_damage_log(out, reader, data.damaged_share)
    if "data.num_frames" in run.overrides:
        trained, tested = run.overrides["data.num_frames"]
        unit = "frames" if run.model.segment_frames == 1 else "segments"
        notes.append(f"trained with {trained} {unit} a clip, tested with {tested}")
    about = describe_test(
        run,
        split,
        description,
        views,
        crop,
        averaging,
        label_of,
        info.name,
        options.config_name,
    )
    published = find_published(card, about)
    if options.protocol:
        notes += published_notes(card, about, published)
    report = make_report(about, run, description, notes) | {"published": published}
    usual_crop = run.overrides.get("data.crop", (data.crop,))[0]
    done, journal, path = np.zeros(len(reader), bool), None, None
    with contextlib.ExitStack() as stack:
        if first_process:
            name = result_name(about, report, usual_crop)
            path = score_path(out / SCORES, name, about, run.class_names)
            kept_views = len(views) if options.view_scores else 0
            digest = identity(about, run.class_names)
            journal = ScoreJournal(path, digest, len(reader), len(run.class_names), kept_views)
            lock = stack.enter_context(FolderLock(journal.folder, "--out"))
            stack.enter_context(journal)
            done = journal.done.copy()
            for note in (*notes, *lock.notes, *journal.notes):
                print(f"note: {note}")
            if done.any():
                print(f"note: {done.sum():,} of {len(done):,} videos have scores already")
        done = shared_with_all_hosts(done)

        # ---- Evaluation: all views of the videos without scores, and a list of the damaged ones --

        rows = remaining_rows(done, batch.videos)
        host_index, host_count = sharding.host_block(mesh)
        batches = eval_batches(
            reader,
            batch.videos,
            data.num_frames,
            crop,
            views,
            resize=data.resize,
            sampling=data.sampling,
            segment_frames=run.model.segment_frames,
            records=rows,
            label=data.label,
            host_index=host_index,
            host_count=host_count,
            workers=data.workers,
            threads=data.threads,
            prefetch=data.prefetch,
        )
        on_every_device = sharding.replicated(mesh)
        view_step = jax.jit(
            sharding.on_mesh(mesh, make_view_step(run.model, batch.views)),
            out_shardings=on_every_device,
            compiler_options=compiler_options(),
        )
        with memory_advice(lambda: evaluation_advice(config)):
            scored = score_videos(
                view_step,
                jax.device_put(run.variables, on_every_device),
                prefetch_to_mesh(batches, mesh, data.prefetch),
                rows,
                batch,
                len(views),
                damage,
                reader.index.video_id,
            )
            done = keep_scores(scored, averaging, done, journal, info.multilabel)

        # ---- Result: one line, the score file and its numbers, eval.json -------------------------

        if first_process:
            labels = true_labels(reader.index, data.label, label_of, info.multilabel)
            scores = journal.to_scores(about, video_names(reader.index), labels, run.class_names)
            result = report | summarize(scores).numbers()
            # First: the disk may be full. Then the journal still has what it could write.
            print(describe_result(result, (out / RESULT_FILE, path)), flush=True)
            write_last(out, write_result(path, scores, report))
    if first_process:
        journal.remove()
    if not done.all():
        print(
            f"error: {len(done) - done.sum()} videos are damaged; {damage.path} names them",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(hosts.leave(exit_status(main)))
