"""How the frames of a run's training data were stored, so that other videos go the same way."""

from collections.abc import Mapping
from typing import Any

from aia_jax.checkpoints.trained_run import TrainedRun, read_manifest
from aia_jax.errors import UserError
from aia_jax.frame_geometry import short_side
from aia_jax.shards.manifest import MANIFEST
from aia_jax.video.frame_size import DEFAULT_QUALITY, FrameFormat, FrameSize

_CHECKPOINT = "the checkpoint"


def find_frame_format(run: TrainedRun, size: str | None = None) -> FrameFormat:
    """How the frames of the run's training data were stored.

    The run's checkpoint says it. One of an older version does not: then the data's manifest does if
    it is there, else the recipe's `data.resize`.

    Args:
        run: the trained run.
        size: the frames' size if the user gives it, as prepare_data.py takes it.

    Raises:
        UserError: neither user, checkpoint, manifest nor recipe gives a size, or `size` cannot be
            parsed.
    """
    options = _stored_options(run)[0]
    more = int(options.get("--quality", DEFAULT_QUALITY)), options.get("--frames") or ""
    if size is not None:
        return FrameFormat(FrameSize.parse(size), *more)
    if "--size" in options:
        return FrameFormat(FrameSize.parse(options["--size"]), *more)
    if resize := run.config.data.resize:
        if short := short_side(resize):
            return FrameFormat(FrameSize(short_side=short), *more)
        height, width = resize
        return FrameFormat(FrameSize(height=height, width=width), *more)
    raise UserError(
        f"the recipe of {run.workdir} has no data.resize and its data folder {run.data_dir} "
        "has no manifest of this data set: say with --size at which size the frames were stored, "
        "as 240x320 or short256"
    )


def frame_format_note(run: TrainedRun, size: str | None = None) -> str:
    """What a user should know of the result of `find_frame_format`; empty if it is the run's own.

    Args and errors are those of `find_frame_format`.
    """
    found, (options, source) = find_frame_format(run, size), _stored_options(run)
    if size is not None and "--size" in options:
        trained = FrameSize.parse(options["--size"])
        differs = trained != found.size
        return f"frames are resized to {found.size}, the run's were to {trained}" if differs else ""
    if source == _CHECKPOINT or size is not None:
        return ""
    origin = f"{source} says so" if "--size" in options else "its recipe's data.resize"
    return (
        f"{run.workdir} does not keep at which size its frames were stored: they are resized to "
        f"{found.size} ({origin})"
    )


def _stored_options(run: TrainedRun) -> tuple[Mapping[str, Any], str]:
    """The options of prepare_data.py with which the run's frames were stored, and who says so."""
    if options := run.data.get("options"):
        return options, _CHECKPOINT
    manifest = read_manifest(run)
    return (manifest[0].get("options", {}) if manifest else {}), str(run.data_dir / MANIFEST)
