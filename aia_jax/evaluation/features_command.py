"""The command `python -m aia_jax.evaluation features`."""

import argparse
import sys
from pathlib import Path

from aia_jax.errors import EXIT_FAILED, UserError

TITLE = "one vector a video, for probes, retrieval and clustering"
ABOUT = (
    "The vector is the mean over frames of what the network's head sees: of a ResNet the mean of "
    "the last feature map over height and width. The file's keys are features, ids, labels, "
    "class_names and about."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "folder", type=Path, metavar="RUN", help="a run's folder, or a folder of converted weights"
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE.npz", help="the file to write"
    )
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="prepared data (default: the run's)"
    )
    command.add_argument(
        "--split", metavar="NAME", help="of the data (default: the run's data.val_split)"
    )
    command.add_argument(
        "--label", metavar="NAME", help="the label feature (default: the run's data.label)"
    )
    command.add_argument(
        "--videos",
        nargs="+",
        metavar="VIDEO",
        help="videos as predict.py takes them, instead of prepared data; they have no labels",
    )
    command.add_argument(
        "--views",
        metavar="CLIPSxCROPS",
        help="of which the mean is taken (default: the run's eval.protocol, centre crop)",
    )
    command.add_argument(
        "--step", default="best", metavar="STEP", help="of the run: a step, best or latest (best)"
    )


def run(options: argparse.Namespace) -> int:
    """Does what the command asks for; returns the exit status."""
    # The other commands of this package work without JAX.
    from aia_jax.compile_cache import use_compile_cache
    from aia_jax.data.views import Views
    from aia_jax.evaluation.features import (
        check_out,
        features_of_files,
        features_of_split,
        write_features,
    )
    from aia_jax.prediction.predict import find_sources
    from aia_jax.weights.open import open_trained

    of_data = [name for name in ("data", "split", "label") if getattr(options, name) is not None]
    if options.videos and of_data:
        raise UserError(f"--{of_data[0]} is of prepared data; give it or --videos, not both")
    check_out(options.out)
    views = None if options.views is None else Views.parse(options.views)
    trained = open_trained(options.folder, options.step)
    use_compile_cache(trained.config.compile_cache)
    views = views or Views.from_protocol(trained.config.eval.protocol)
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.videos:
        features = features_of_files(trained, find_sources(options.videos), views)
    else:
        data = trained.config.data
        if options.data is None and not (data.dir or trained.data.get("dir")):
            raise UserError("no data are named: give --data DIR, or --videos")
        features = features_of_split(
            trained,
            options.data or trained.data_dir,
            options.split or data.val_split,
            options.label or data.label,
            views,
            options.out.parent,
        )
    write_features(options.out, features, trained, views)
    count, size = features.vectors.shape
    print(f"wrote {options.out}: {count:,} videos, {size:,} numbers each")
    for name, reason in features.unreadable:
        print(f"error: {name}: {reason}", file=sys.stderr)
    return EXIT_FAILED if features.unreadable else 0
