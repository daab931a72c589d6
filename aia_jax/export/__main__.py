"""Writes a trained network as one file that runs without this project.

    python -m aia_jax.export --workdir DIR --out model.bin

The file is StableHLO with the weights and the normalisation inside: uint8 clips [b, T, H, W, 3] in,
for any b, probabilities [b, K] out, on CPUs, CUDA GPUs and TPUs. They sum to 1, or, of a network
for several classes a video, are each class's own. Loading it takes jax and flatbuffers. Beside it
lie a model card for people (.md) and its facts for programs (.json). Exit status: 0 written; 2 the
input is wrong, nothing was written.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError, exit_status
from aia_jax.export.classifier import PLATFORMS, export_classifier
from aia_jax.export.model_card import card_facts, write_card
from aia_jax.files import atomic_file


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m aia_jax.export", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the trained run")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="file to write, such as model.bin; the card goes to model.md and .json",
    )
    parser.add_argument(
        "--step",
        default="best",
        metavar="STEP",
        help="checkpoint: a step, best (default), or latest",
    )
    options = parser.parse_args(argv)
    out = Path(options.out)
    _check(out)

    run = open_run(Path(options.workdir), options.step)
    started = time.perf_counter()
    content = export_classifier(
        run.model, run.variables, run.clip_shape, multilabel=run.multilabel
    ).serialize()
    seconds = time.perf_counter() - started
    with atomic_file(out) as file:
        file.write(content)
    card, facts = write_card(out, card_facts(run, out.name, bytes(content), PLATFORMS))
    print(
        f"wrote {out}: step {run.step} of {run.workdir}, {len(content) / 1e6:.1f} MB, lowered in "
        f"{seconds:.1f} s; {card} says what it is and how to load it, {facts} says the same to "
        "programs"
    )


def _check(out: Path) -> None:
    """Checks, before anything is computed, that the export can be written.

    Raises:
        UserError: flatbuffers is missing, or `out` has no ending of its own or lies in no folder.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(
            "an export is written with the package flatbuffers, which is not installed: pip "
            "install flatbuffers"
        )
    if out.suffix in ("", ".md", ".json"):
        raise UserError(
            f"--out {out}: give a name with an ending other than .md and .json, which are the "
            "card's, such as model.bin"
        )
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
