"""The commands `prepare_data.py verify DIR` and `prepare_data.py show DIR --out page.html`."""

import argparse
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.show import write_page
from aia_jax.prepare.verify import verify
from aia_jax.video.decode import cores

_VERIFY = """\
Reads a prepared data set from the first byte to the last.

Checks the checksum of every record, decodes every picture strictly, and compares counts, labels,
class names and sizes with the metadata, the index and manifest.json. Everything that is wrong is
listed; nothing is changed.
"""
_SHOW = """\
Writes a page to look at: clips of every split with their classes, how many videos each class has,
lengths and frame rates, what a mirrored clip is called, and what is damaged or missing. One file
that needs nothing else; open it in a browser.
"""
_MOST_LISTED = 1000  # lines of damage


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds both commands to those of prepare_data.py."""
    raw_text = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "verify",
        help="checks a prepared data set: every byte, every picture",
        description=_VERIFY,
        epilog="exit status: 0 all is well; 1 something is damaged; 2 not a prepared data set",
        formatter_class=raw_text,
    )
    parser.add_argument("dir", metavar="DIR", help="the prepared data set")
    parser.add_argument(
        "--workers",
        type=int,
        default=cores(),
        metavar="N",
        help="processes (default: one a core, %(default)s)",
    )
    parser = commands.add_parser(
        "show",
        help="makes a page to look at of a prepared data set",
        description=_SHOW,
        formatter_class=raw_text,
    )
    parser.add_argument("dir", metavar="DIR", help="the prepared data set")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="the page, as page.html; an older one is replaced",
    )
    parser.add_argument(
        "--clips",
        type=int,
        default=6,
        metavar="N",
        help="film strips of each split (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="chooses the clips (default: %(default)s)"
    )
    parser.add_argument(
        "--label", metavar="NAME", help="label feature to show (default: the first)"
    )


def run_verify(options: argparse.Namespace) -> int:
    """Prints what `verify` finds; returns 1 if something is damaged."""
    if options.workers < 1:
        raise UserError("--workers is a count of at least 1")
    result = verify(Path(options.dir), options.workers)
    for damage in result.damage[:_MOST_LISTED]:
        print(f"{damage.where}: {damage.reason}")
    if len(result.damage) > _MOST_LISTED:
        print(f"… and {len(result.damage) - _MOST_LISTED:,} more")
    verdict = f"{len(result.damage):,} things are wrong" if result.damage else "all is well"
    print(
        f"read {result.videos:,} videos, {result.frames:,} frames, {result.bytes / 1e6:,.1f} MB: "
        f"{verdict}"
    )
    return 1 if result.damage else 0


def run_show(options: argparse.Namespace) -> int:
    """Writes the page; returns 0."""
    if options.clips < 1 or options.seed < 0:
        raise UserError("--clips is a count of at least 1, --seed a number of at least 0")
    page = Path(options.out)
    if page.is_dir():
        raise UserError(f"--out {page} is a folder; name a file, as {page / 'page.html'}")
    if not page.absolute().parent.is_dir():
        raise UserError(
            f"--out {page}: the folder {page.absolute().parent} does not exist; make it first"
        )
    size = write_page(Path(options.dir), page, options.clips, options.seed, options.label)
    print(f"wrote {page} ({size / 1e6:.1f} MB); open it in a browser")
    return 0


TOOLS = {"verify": run_verify, "show": run_show}
