"""Names for shape annotations: jaxtyping's where it is installed, else inert ones."""

from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray  # jax takes NumPy's arrays wherever it takes its own

try:
    from jaxtyping import Float, Int, Key, PyTree, UInt8
except ImportError:

    class _Unchecked:
        """`Float[Array, "b t"]` reads as `Array` where nothing checks shapes."""

        def __class_getitem__(cls, item: Any) -> Any:
            return item[0] if isinstance(item, tuple) else item

    Float = Int = Key = UInt8 = _Unchecked
    PyTree = Any

__all__ = ["Array", "Float", "Int", "Key", "PyTree", "UInt8"]
