"""What readers of published data sets share: annotation files found and read, their videos found,
everything told to the user.
"""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aia_jax.errors import UserError
from aia_jax.prepare.item import Part, RawDataset, RawVideo
from aia_jax.prepare.listing import VIDEOS, contents, folders_in, some


class Source(NamedTuple):
    """A video file (with its bytes) or a folder of frames (0)."""

    path: Path
    size: int


def find(raw: Path, names: Sequence[str], folders: Sequence[str] = (), *, what: str) -> Path:
    """The annotation file of one of these names, in `raw` or in one of its folders.

    Args:
        raw: the data set's folder.
        names: of the file, the likeliest first.
        folders: below `raw`, where it may lie too.
        what: the file in words, and where it comes from.

    Raises:
        UserError: if there is none: which files were looked for and what the folder has.
    """
    if path := find_optional(raw, names, folders):
        return path
    places = [str(raw), *(str(raw / folder) for folder in folders)]
    hint = next(
        (
            f"; did you mean --raw {inner}?"
            for inner in folders_in(raw)
            if find_optional(inner, names, folders)
        ),
        "",
    )
    raise UserError(
        f"no {' or '.join(names)} ({what}): looked in {', '.join(places)}; {contents(raw)}{hint}"
    )


def find_optional(raw: Path, names: Sequence[str], folders: Sequence[str] = ()) -> Path | None:
    """As `find`; None if there is no such file."""
    paths = (
        folder / name for folder in (raw, *(raw / folder for folder in folders)) for name in names
    )
    return next((path for path in paths if path.is_file()), None)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, stripped; empty ones are passed over.

    Raises:
        UserError: if it is not UTF-8 text.
    """
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path, kind: type) -> Any:
    """The value of a JSON file, which must be a list or a dict, as `kind` says.

    Raises:
        UserError: if it is not JSON, or of another kind.
    """
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); download it again"
        ) from error
    if not isinstance(value, kind):
        raise UserError(
            f"{path}: found a {type(value).__name__}, expected a {kind.__name__}; is this the "
            "right file?"
        )
    return value


def table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, as dicts by column name, with their line numbers.

    Args:
        path: the file.
        columns: that it must have; it may have others.

    Raises:
        UserError: if a column is missing, a row has another number of cells, or the file is not
            CSV.
    """
    rows = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        yield from _checked_rows(path, rows, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: not CSV ({error})") from error


def _checked_rows(
    path: Path, rows: Any, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    header = [name.strip() for name in next(rows, [])]
    if missing := [name for name in columns if name not in header]:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; its first line has "
            f"{', '.join(header) or 'nothing'}"
        )
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {rows.line_num}: found {len(row)} cells, expected {len(header)} as "
                "in the first line"
            )
        yield rows.line_num, dict(zip(header, map(str.strip, row), strict=True))


def whole(text: Any, where: str, low: int = 0, high: int | None = None) -> int:
    """A whole number from `low` to below `high`.

    Raises:
        UserError: if `text` is none; `where` says the file, line and column.
    """
    try:
        number = int(text)
    except (TypeError, ValueError):
        raise UserError(f"{where}: found {text!r}, expected a whole number") from None
    if number < low or (high is not None and number >= high):
        raise UserError(
            f"{where}: found {number}, expected "
            f"{f'at least {low}' if high is None else f'{low} to {high - 1}'}"
        )
    return number


def numbered_names(
    path: Path, pairs: Iterable[tuple[str, str, str]], first: int
) -> tuple[str, ...]:
    """Class names by class id, from (number, name, where) with numbers from `first` without gaps.

    Raises:
        UserError: if a number is missing or comes twice.
    """
    names: dict[int, str] = {}
    for text, name, where in pairs:
        number = whole(text, where, first)
        if number in names:
            raise UserError(
                f"{where}: class {number} is there twice, as {names[number]!r} and {name!r}"
            )
        names[number] = name
    if not names:
        raise UserError(f"{path}: no classes in it; download it again")
    if missing := set(range(first, first + len(names))) - names.keys():
        raise UserError(
            f"{path}: the class numbers go to {max(names)}, but {min(missing)} is missing; "
            "download it again"
        )
    return tuple(names[number] for number in sorted(names))


def sources_below(root: Path, depth: int, folders: bool = True) -> dict[str, Source]:
    """Video files by name without suffix, at most `depth` folders down (1: in `root` itself), and
    folders of frames at that depth by name.

    Of two with one name, the one that comes first in alphabetical order counts.
    """
    found: dict[str, Source] = {}
    with os.scandir(root) as scan:
        entries = sorted(
            (entry for entry in scan if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    for entry in entries:
        stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
        if entry.is_dir():
            if depth > 1:
                for name, source in sources_below(Path(entry.path), depth - 1, folders).items():
                    found.setdefault(name, source)
            elif folders:
                found.setdefault(entry.name, Source(Path(entry.path), 0))
        elif suffix.lower() in VIDEOS:
            found.setdefault(
                stem, Source(Path(entry.path), entry.stat().st_size if entry.is_file() else 0)
            )
    return found


def folder_of(raw: Path, names: Sequence[str]) -> Path:
    """The first of these folders that is there, else `raw` itself."""
    return next((raw / name for name in names if (raw / name).is_dir()), raw)


def listed(
    video_id: str,
    source: Source | None,
    expected: Path,
    labels: Mapping[str, int],
    split: str,
    part: Part | None = None,
) -> RawVideo:
    """A video that an annotation file names; without a source it is missing from where it is
    expected.
    """
    if source is None:
        return RawVideo(video_id, expected, labels, split, part=part, missing=True)
    return RawVideo(video_id, source.path, labels, split, source.size, part)


def dataset(
    name: str,
    class_names: Mapping[str, Sequence[str]],
    videos: Iterable[RawVideo],
    annotations: Sequence[Path],
    raw: Path,
    remarks: Sequence[str] = (),
) -> RawDataset:
    """Checks what a reader found, and adds what the user should know of it: missing videos, classes
    without any.

    Raises:
        UserError: if a video comes twice in a split, all are missing, or a class has no name of its
            own.
    """
    videos = tuple(videos)
    if not videos:
        raise UserError(
            f"{' and '.join(path.name for path in annotations)} in {raw}: no videos are listed; "
            "download them again"
        )
    _check_names(class_names, annotations)
    twice = [
        key
        for key, count in Counter((video.split, video.video_id) for video in videos).items()
        if count > 1
    ]
    if twice:
        raise UserError(
            f"{some([path.name for path in annotations])}: {twice[0][1]} is listed twice in the "
            f"split {twice[0][0]}"
        )
    missing = Counter(video.split for video in videos if video.missing)
    if missing.total() == len(videos):
        place = next((folder for folder in videos[0].source.parents if folder.is_dir()), raw)
        raise UserError(
            f"none of the {len(videos):,} listed videos is there: looked for {videos[0].source} "
            f"and so on; {contents(place)}; "
            "unpack the videos there, or give --raw the folder that holds them"
        )
    remarks = list(remarks)
    expected = Counter(video.split for video in videos)
    remarks += [
        f"missing of the split {split}: {count:,} of {expected[split]:,} listed videos"
        for split, count in sorted(missing.items())
    ]
    for label, names in class_names.items():
        if unused := sorted(set(range(len(names))) - {video.labels[label] for video in videos}):
            what = f"classes ({label})" if label != "label" else "classes"
            remarks.append(
                f"{what} without videos, which keep their ids: {len(unused)} "
                f"({some([names[k] for k in unused])})"
            )
    return RawDataset(
        name,
        {label: tuple(names) for label, names in class_names.items()},
        videos,
        tuple(remarks),
        tuple(annotations),
    )


def _check_names(class_names: Mapping[str, Sequence[str]], annotations: Sequence[Path]) -> None:
    where = some([path.name for path in annotations])
    for names in class_names.values():
        for name, count in Counter(names).items():
            if not name or name != name.strip() or re.search(r"[\r\n]", name):
                raise UserError(
                    f"{where}: {name!r} cannot name a class: a name is one line without spaces at "
                    "its ends"
                )
            if count > 1:
                raise UserError(f"{where}: two classes are named {name!r}; give each its own name")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); download it again, or save it as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
