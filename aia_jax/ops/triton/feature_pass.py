"""One pass over features: values computed element by element, some written and some reduced.

XLA for GPUs makes a kernel for every reduced axis, and each of these kernels reads the feature
again. They also fetch planes from the second-level cache for every element: a plane pooled over T
for each of eight frames, one pooled over H for each row. Here an NVIDIA GPU runs one kernel
(`feature_pass_kernel.py`). It reads the features once, or twice if it reduces over W and also has
other results.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.triton.feature_pass_kernel import feature_pass_kernel
from aia_jax.ops.triton.feature_pass_plan import Body, FeaturePass, Reduction
from aia_jax.ops.triton.partition import partition_over_clips
from aia_jax.ops.xla_fusion import at_least_float32, round_to
from aia_jax.shapes import Array

__all__ = ["Reduction", "feature_pass"]


def feature_pass(
    body: Body,
    features: Sequence[Array],
    planes: Sequence[Array],
    plane_axes: Sequence[int],
    reductions: Sequence[Reduction] = (),
    writes: Sequence[tuple[int, Any]] = (),
) -> tuple[Array, ...]:
    """Computes values from features and planes, and writes or reduces them.

    Args:
        body: (features, planes, round_to_dtype) → values, element by element. All are float32; a
            plane has size 1 along the axis over which it was pooled, or its full size.
            `round_to_dtype` rounds a value to the features' dtype: a value must be rounded where it
            is pooled, and where it is compared with its maximum later.
        features: one or more [B, T, H, W, C] of one float dtype of at most 32 bits, at most
            `MAX_FRAMES` frames.
        planes: a feature's shape without one axis each, floats of at most 32 bits.
        plane_axes: that axis of each plane: 1, 2, 3 or 4 for T, H, W or C.
        reductions: values to reduce along an axis.
        writes: (index of a value, dtype) of values to write in the feature's shape.

    Returns:
        The results of each reduction, planes of the features' dtype, then the written values.
    """
    spec = FeaturePass(body, len(features), tuple(plane_axes), tuple(reductions), tuple(writes))
    num_planes = sum(reduction.num_results for reduction in reductions)
    kernel = partition_over_clips(
        lambda *operands: feature_pass_kernel(spec, operands), [4] * num_planes + [5] * len(writes)
    )
    return jax.lax.platform_dependent(
        *features, *planes, cuda=kernel, default=lambda *operands: _feature_pass_xla(spec, operands)
    )


def _feature_pass_xla(spec: FeaturePass, operands: Sequence[Array]) -> tuple[Array, ...]:
    """Computes the same in XLA's operations. Other devices run this, and tests compare with it."""
    features, planes = operands[: spec.num_features], operands[spec.num_features :]
    dtype = features[0].dtype
    stretched = [
        jnp.expand_dims(at_least_float32(plane), axis)
        for plane, axis in zip(planes, spec.plane_axes, strict=True)
    ]
    values = spec.body(
        [at_least_float32(feature) for feature in features],
        stretched,
        lambda value: at_least_float32(round_to(value, dtype)),
    )
    values = [jnp.broadcast_to(value, features[0].shape) for value in values]
    results: list[Array] = []
    for index, axis, kind in spec.reductions:
        value = values[index]
        if kind == "sum":
            results.append(value.sum(axis))
            continue
        maximum = value.max(axis)
        results += [maximum, value.mean(axis)]
        if kind == "ties":
            ties = value == jnp.expand_dims(maximum, axis)
            results.append(ties.astype(jnp.float32).sum(axis))
    return *(result.astype(dtype) for result in results), *(
        values[index].astype(dtype) for index, dtype in spec.writes
    )
