"""Variables of a network as if it had been trained, without compiling its initialisation."""

import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np


def drawn(module: nn.Module, *inputs: Any) -> Any:
    """Draws random float32 variables for `module(*inputs)`.

    Kernels are about as large as an initialiser's; scales, biases and statistics differ from the
    ones and zeros with which they start.
    """
    rng = np.random.default_rng(0)

    def leaf(path: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
        match path[-1].key:
            case "kernel":
                return rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape)
            case "scale" | "var":
                return rng.uniform(0.5, 1.5, shape)
            case "bias" | "mean" | "class_token" | "position_embedding":
                return rng.normal(0, 0.1, shape)
            case name:
                raise ValueError(name)

    shapes = jax.eval_shape(lambda key: module.init(key, *inputs), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(
        lambda path, variable: leaf(path, variable.shape).astype("f4"), shapes
    )
