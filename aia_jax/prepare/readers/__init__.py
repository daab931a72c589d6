"""The readers of raw data sets, and the one table that `prepare_data.py` takes them from.

To add a data set, write one module in this folder and add a row to `READERS`. The module has

* a docstring: its help text. The first line describes the data set in the list of all data sets;
  the rest shows how the raw folder RAW is laid out and says what becomes of it;
* `add_arguments(parser)`: adds the reader's own options, if it has any. Each option must have a
  plain value (text, number, list of them, True or None): the manifest records it, and a run with
  another value is refused to go on with the work of an earlier run;
* `read(raw, options)`: lists the videos, their labels and the class names as a `RawDataset`,
  without opening a video. It raises `UserError` if annotations are missing or wrong;
  `annotations.py`, `raw_folder.py` and `build_dataset.py` help with that;
* `RECIPE` (optional): the config that the command proposes to train with, as "configs/ssv2.py:tsn".
  It may have the reader's options in braces, as in "configs/egtea.py:tsn,split={split}". Without
  it the command proposes the recipe for your own videos.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.readers import (
    csv_file,
    diving48,
    egtea,
    epic55,
    folders,
    kinetics400,
    lists,
    ssv1,
    ssv2,
    ucf101,
)


class Reader(Protocol):
    """What a module in this folder offers (see above)."""

    __doc__: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def read(self, raw: Path, options: argparse.Namespace) -> RawDataset: ...


# Name on the command line → module, in the order of the help.
READERS: Mapping[str, Reader] = {
    "folders": folders,
    "csv": csv_file,
    "lists": lists,
    "ssv1": ssv1,
    "ssv2": ssv2,
    "diving48": diving48,
    "egtea": egtea,
    "epic55": epic55,
    "kinetics400": kinetics400,
    "ucf101": ucf101,
}
