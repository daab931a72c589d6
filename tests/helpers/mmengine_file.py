"""Checkpoints in the form of mmengine's training programs, without mmengine."""

import collections
import contextlib
import datetime
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

_MODULE = "mmengine.logging.history_buffer"


class HistoryBuffer:
    """mmengine's log of a number: two arrays, and methods of its own class by their names."""

    def __init__(self, values: list[float]):
        self.max_length = 1_000_000
        self._log_history = np.array(values)
        self._count_history = np.array([1] * len(values))

    def mean(self) -> None:
        """Stands for a statistic; a pickle refers to it through `getattr`."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}


@contextlib.contextmanager
def _mmengine() -> Iterator[None]:
    """The names that a pickle of mmengine's has, for as long as one is written."""
    modules = {name: types.ModuleType(name) for name in ("mmengine", "mmengine.logging", _MODULE)}
    modules[_MODULE].HistoryBuffer = HistoryBuffer
    names = (HistoryBuffer.__module__, HistoryBuffer.mean.__module__)
    sys.modules |= modules
    HistoryBuffer.__module__ = HistoryBuffer.mean.__module__ = _MODULE
    try:
        yield
    finally:
        HistoryBuffer.__module__, HistoryBuffer.mean.__module__ = names
        for name in modules:
            del sys.modules[name]


def make_checkpoint(state_dict: dict[str, torch.Tensor], **fields: Any) -> dict[str, Any]:
    """What mmengine's runner saves: weights, `meta`, the log, the optimizer and its schedules.

    Args:
        state_dict: of the network.
        fields: in place of the same ones, or in addition.
    """
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = torch.optim.AdamW([parameter])
    optimizer.step()
    log = collections.OrderedDict({"train/loss": HistoryBuffer([2.5, 1.25])})
    return {
        "meta": {
            "epoch": 50,
            "iter": np.int64(12_000),
            "cfg": "model = dict(type='Recognizer2D')\n",
            "seed": np.int32(7),
            "experiment_name": "tsm_20230101",
            "time": datetime.datetime(2023, 1, 1, 12, tzinfo=datetime.UTC),
            "mmengine_version": "0.10.1",
            "dataset_meta": {"classes": ("abseiling", "air drumming", "archery")},
            "hook_msgs": {"best_score": np.float64(0.71), "last_ckpt": Path("work/epoch_50.pth")},
        },
        "state_dict": collections.OrderedDict(state_dict),
        "message_hub": {
            "log_scalars": log,
            "runtime_info": collections.OrderedDict(epoch=49, loop_stage="train"),
            "resumed_keys": collections.OrderedDict({"train/loss": True}),
        },
        "optimizer": optimizer.state_dict(),
        "param_schedulers": [{"by_epoch": True, "_last_lr": [np.float64(1e-3)]}],
        **fields,
    }


def save(path: Path, content: Any, **options: Any) -> None:
    """torch.save of a checkpoint that holds mmengine's log."""
    with _mmengine():
        torch.save(content, path, **options)
