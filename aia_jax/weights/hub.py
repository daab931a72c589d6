"""The folder of a network in the form of model hubs: written here, and read back.

It holds `model.safetensors` (variables under their paths), `config.json` (`hub_config.py`) and
`README.md` (`hub_card.py`). A hub's own tool publishes and fetches such a folder as it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.errors import UserError, shorten
from aia_jax.files import write_text
from aia_jax.weights.files import (
    DESCRIPTION,
    is_weights_folder,
    named_errors,
    read_description,
    save_folder,
)
from aia_jax.weights.hub_card import hub_page
from aia_jax.weights.hub_config import (
    HUB_CARD,
    HUB_CONFIG,
    HUB_WEIGHTS,
    LIBRARY,
    is_hub_folder,
    label_tables,
    library_versions,
)
from aia_jax.weights.open import GEOMETRY, open_weights
from aia_jax.weights.source_choice import card_of_folder


def write_hub_folder(folder: Path, run: TrainedRun, license_name: str | None = None) -> None:
    """Writes a network in the form of model hubs, or replaces its files.

    Args:
        folder: made if needed.
        run: the network: of a run, of a folder of weights, or of a hub folder.
        license_name: of the weights, as hubs abbreviate it, such as "cc-by-nc-4.0"; None: nobody
            has said it.

    Raises:
        UserError: the folder holds a `weights.json`, or cannot be written.
        RunFailed: its disk is full.
    """
    if (folder / DESCRIPTION).is_file():
        raise UserError(
            f"--hub {folder}: it is a folder of weights (it has {DESCRIPTION}); give another one"
        )
    description = _describe(run)
    save_folder(folder, run.variables, description, (HUB_WEIGHTS, HUB_CONFIG))
    page = hub_page(run, read_description(folder), license_name)
    with named_errors(folder):
        write_text(folder / HUB_CARD, page, errors="backslashreplace")


def read_hub_folder(folder: Path, class_file: Path | None = None, **more: Any) -> TrainedRun:
    """Opens a folder that `write_hub_folder` wrote; the variables are bit for bit the same.

    Args:
        folder: with config.json and model.safetensors.
        class_file, more: as in `open_weights`, which takes such folders too.

    Raises:
        UserError: it is no such folder, and as `open_weights`.
    """
    if not is_hub_folder(folder):
        raise UserError(
            f"{shorten(folder)} is not a folder that `python -m aia_jax.weights --hub` wrote: it "
            f"has no {HUB_CONFIG} with library_name {LIBRARY}"
        )
    return open_weights(folder, class_file, **more)


def _describe(run: TrainedRun) -> dict[str, Any]:
    """The content of config.json but for the format and the digest."""
    earlier: Mapping[str, Any] = {}
    card = None
    if run.step is None and is_weights_folder(run.workdir):
        earlier, card = read_description(run.workdir), card_of_folder(run.workdir)
    training = None
    if run.step is not None:
        average = run.config.train.ema_decay > 0
        recipe = run.recipe.get("config") or ""
        training = {"recipe": recipe, "dataset": run.config.data.name, "step": run.step}
        training["moving_average"] = average
    source = earlier.get("source")
    if isinstance(source, Mapping) and isinstance(source.get("file"), str):
        source = {**source, "file": Path(source["file"]).name}  # not the paths of this machine
    return {
        "library_name": LIBRARY,
        "pipeline_tag": "video-classification",
        "network": run.model.describe(),
        "model": {**run.config.model.to_dict(), "num_classes": len(run.class_names)},
        "shown": earlier.get("shown", {}),
        "data": {
            **{field: run.config.data[field] for field in GEOMETRY},
            "label_kind": "multi" if run.multilabel else "single",
        },
        "pixels": {
            # The shortest text of a float32.
            "mean": [float(str(value)) for value in run.model.mean],
            "std": [float(str(value)) for value in run.model.std],
        },
        "config": earlier.get("config") or run.recipe.get("config") or "",
        "training": training or earlier.get("training"),
        "source": source,
        "card": None if card is None else card.as_json(),
        "versions": library_versions(),
        **(label_tables(run.class_names) if run.names_known else {}),
    }
