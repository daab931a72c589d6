"""The frames of a video that lie in memory, in place of a file."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from aia_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class FrameArray:
    """A video in memory, as its frames would lie in a folder.

    Attributes:
        name: for results and errors.
        pixels: uint8 [F, H, W, 3], RGB, upright.
    """

    name: str
    pixels: np.ndarray

    @classmethod
    def check(cls, name: str, pixels: Any) -> "FrameArray":
        """Makes one of an array of NumPy, JAX or PyTorch.

        Raises:
            UserError: it is no uint8 [F, H, W, 3] with at least one frame.
        """
        array = np.asarray(pixels)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not array.size:
            raise UserError(
                f"{name} is {array.dtype} {list(array.shape)}; a video is uint8 [F, H, W, 3]: "
                "frames, height, width, and red, green, blue from 0 to 255"
            )
        return cls(name, array)

    def __str__(self) -> str:
        return self.name

    def wanted(self, numbers: Collection[int] | None) -> np.ndarray:
        """The frames of these numbers, ascending; None: all."""
        return self.pixels if numbers is None else self.pixels[sorted(numbers)]
