"""One pass over a feature: whatever is computed of it and of planes, element by element, and what
is summed up of that.

XLA for GPUs makes a kernel for each reduced axis, reads the feature for each, and fetches planes
from the second-level cache for every
element: a plane that lacks T for each of eight frames, one that lacks H for each row. NVIDIA's GPUs
get one kernel (`gpu_pass_kernel`).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.triton.by_clips import by_clips
from aia_jax.ops.triton.feature_pass_kernel import MAX_FRAMES, Body, Pass, Reduction, pass_by_kernel
from aia_jax.ops.xla_fusion import rounded, wide
from aia_jax.shapes import Array

__all__ = ["MAX_FRAMES", "Reduction", "feature_pass"]


def feature_pass(
    body: Body,
    features: Sequence[Array],
    planes: Sequence[Array],
    lacking: Sequence[int],
    reductions: Sequence[Reduction] = (),
    writes: Sequence[tuple[int, Any]] = (),
    interpret: bool = False,
) -> tuple[Array, ...]:
    """Computes values from features and planes, writes some and reduces some.

    Args:
        body: (features, planes, rounded) → values. It is traced on tiles, all float32, planes ready
            to be broadcast, and computes element by element. `rounded` rounds to the features'
            dtype: what is pooled, and what is compared with its maximum later.
        features: [B, T, H, W, C] all, at most `MAX_FRAMES` frames, of float32 or less.
        planes: float32 or less, a feature's shape without one axis.
        lacking: of each plane that axis.
        reductions: what to reduce.
        writes: (which value, dtype) of what is written in the feature's shape.
        interpret: run by Pallas' interpreter, on any backend.

    Returns:
        For each reduction its results, planes of the features' dtype, one after the other; then
        what is written.
    """
    what = Pass(body, len(features), tuple(lacking), tuple(reductions), tuple(writes))
    ranks = [4] * sum(reduction.results for reduction in reductions) + [5] * len(writes)
    kernel = by_clips(lambda *arrays: pass_by_kernel(what, arrays, interpret), ranks)
    if interpret:
        return kernel(*features, *planes)
    return jax.lax.platform_dependent(
        *features, *planes, cuda=kernel, default=lambda *arrays: _by_xla(what, arrays)
    )


def _by_xla(what: Pass, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The same in XLA's operations: what every kernel is measured by, and what other devices run."""
    features, planes = arrays[: what.num_features], arrays[what.num_features :]
    dtype = features[0].dtype
    stretched = [
        jnp.expand_dims(wide(plane), axis) for plane, axis in zip(planes, what.lacking, strict=True)
    ]
    values = what.body(
        [wide(feature) for feature in features],
        stretched,
        lambda value: wide(rounded(value, dtype)),
    )
    values = [jnp.broadcast_to(value, features[0].shape) for value in values]
    results: list[Array] = []
    for which, axis, kind in what.reductions:
        value = values[which]
        if kind == "sum":
            results.append(value.sum(axis))
            continue
        maximum = value.max(axis)
        results += [maximum, value.mean(axis)]
        if kind == "ties":
            results.append((value == jnp.expand_dims(maximum, axis)).astype(jnp.float32).sum(axis))
    return *(result.astype(dtype) for result in results), *(
        values[value].astype(dtype) for value, dtype in what.writes
    )
