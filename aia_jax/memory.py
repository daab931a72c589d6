"""Running out of memory, as one line that says which fields of the config need less."""

import contextlib
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from aia_jax.errors import RunFailed, out_of_memory
from aia_jax.models import clip_shape, training_model


@contextlib.contextmanager
def memory_advice(advice: Callable[[], str]) -> Iterator[None]:
    """Turns running out of memory inside the block into one line.

    Args:
        advice: gives what to do about it.

    Raises:
        RunFailed: names what ran out and the advice. Any other exception goes on.
    """
    try:
        yield
    except Exception as error:
        if (reason := out_of_memory(error)) is None:
            raise
        raise RunFailed(f"{reason}; {advice()}") from error


def training_advice(config: ConfigDict) -> str:
    """What makes a training step smaller."""
    data, train, model = config.data, config.train, training_model(config)
    smaller_parts = "; BatchNorm then sees smaller parts" if hasattr(model, "bn_group_size") else ""
    remat = ""
    if hasattr(model, "remat"):
        blocks = ",".join(map(str, train.remat)) or "none"
        remat = (
            f"name parts of the network in --config.train.remat ({blocks}; the first hold the "
            "most; not on CPUs), "
        )
    return (
        f"a step takes {train.batch_size} clips of {_clip(config)} in {train.accumulate} "
        f"part{'s' * (train.accumulate > 1)}: raise --config.train.accumulate "
        f"({train.accumulate}{smaller_parts}), {remat}lower "
        f"--config.train.batch_size ({train.batch_size}), --config.eval.batch_size "
        f"({config.eval.batch_size}) for validation, or --config.data.crop ({data.crop}), or end "
        "other programs that use the memory"
    )


def evaluation_advice(config: ConfigDict) -> str:
    """What makes a batch of evaluation smaller."""
    return (
        f"a call of the network takes up to {config.eval.batch_size} clips of {_clip(config)}, of "
        f"one video or more: lower --config.eval.batch_size "
        f"({config.eval.batch_size}), or --config.data.crop ({config.data.crop}; train with it "
        "too), or end other programs that use the memory; evaluation keeps nothing for gradients, "
        "so train.accumulate and train.remat change nothing"
    )


def prediction_advice(shape: tuple[int, ...]) -> str:
    """What makes a call of the network in `predict.py` smaller; its clips: [B, T, H, W, 3]."""
    return (
        f"the network takes {shape[0]} clips of {'×'.join(map(str, shape[1:4]))} pixels at a time: "
        "name fewer videos, or fewer clips with --views, or end other programs that use the "
        "memory; JAX_PLATFORMS=cpu in the environment leaves the accelerator alone"
    )


def _clip(config: ConfigDict) -> str:
    frames, height, width, _ = clip_shape(training_model(config), config.data.crop)
    return f"{frames}×{height}×{width} pixels"
