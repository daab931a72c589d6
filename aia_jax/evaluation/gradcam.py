"""Grad-CAM: where in a clip a network finds the evidence for a class (Selvaraju et al. 2017).

The map of a layer's output A [T, H, W, C] for the class k is

    weights[t, c] = mean over h, w of d logit_k / d A[t, h, w, c]
    map[t, h, w] = max(0, sum over c of weights[t, c] · A[t, h, w, c])      (Eqs. 1 and 2 there)

with weights for each frame of their own, as a hook on a PyTorch network over folded frames has
them. Fig. 6 of the AIA paper shows such maps of the last layer.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.errors import UserError
from aia_jax.shapes import Array, Float, Int

_MAX_LISTED = 40  # names of layers in an error message


class Layer(NamedTuple):
    """A module of a network whose output is a map of frames.

    Attributes:
        name: the module's path, as "stage4_block2/conv2".
        shape: of its output.
    """

    name: str
    shape: tuple[int, ...]


def list_layers(model: nn.Module, variables: Mapping[str, Any], clips: Any) -> list[Layer]:
    """Lists the layers that `grad_cam` can look at, in the order in which they are computed.

    Args:
        model: a network of `aia_jax.models`.
        variables: {"params", "batch_stats"}, arrays or their shapes.
        clips: float [B, T, H, W, 3], an array or its shape; nothing is computed.
    """
    layers: list[Layer] = []

    def record(name: str, output: Any) -> Any:
        if hasattr(output, "shape") and _frame_map(model, output, clips.shape) is not None:
            layers.append(Layer(name, output.shape))
        return output

    jax.eval_shape(lambda v, c: _apply(model, v, c, record), variables, clips)
    return layers


def grad_cam(
    model: nn.Module,
    variables: Mapping[str, Any],
    clips: Float[Array, "b t h w 3"],
    classes: Int[Array, " b"],
    layer: str = "",
) -> Float[Array, "b t2 h2 w2"]:
    """Computes the map of each clip for one class; a pure function that may be jitted.

    Args:
        model: a network of `aia_jax.models`.
        variables: {"params", "batch_stats"}.
        clips: normalised frames.
        classes: of each clip, the label whose evidence is sought.
        layer: one of `list_layers`; "" for the network's `cam_layer`.

    Returns:
        float32 maps of the layer's size, not negative, in the unit of logits (a map's mean over H
        and W is the frame's share in the logit, where the layer is the last one and the head is
        linear). A map of zeros says that nothing speaks for the class.

    Raises:
        UserError: if there is no such layer; lists those that there are.
    """
    layers = {known.name: known for known in list_layers(model, variables, clips)}
    layer = layer or model.cam_layer
    if layer not in layers:
        names = list(layers)
        more = f", … ({len(names)} in all)" if len(names) > _MAX_LISTED else ""
        raise UserError(
            f"--layer {layer}: the network has no such layer; it has "
            f"{', '.join(names[:_MAX_LISTED])}{more}"
        )

    def class_logits(offset: Array) -> tuple[Array, Array]:
        """The sum of the classes' logits if `offset` is added to the layer's output, and it."""
        outputs = []

        def shift(name: str, output: Any) -> Any:
            if name != layer:
                return output
            outputs.append(output)
            return output + offset.astype(output.dtype)

        logits = _apply(model, variables, clips, shift)
        chosen = jnp.take_along_axis(logits, classes[:, None], axis=1)
        return chosen.sum(), outputs[-1].astype(jnp.float32)

    # A clip's logit depends on its own rows only, so the gradient of the sum is that of each.
    gradient, output = jax.grad(class_logits, has_aux=True)(jnp.zeros(layers[layer].shape))
    gradient, output = (_frame_map(model, value, clips.shape) for value in (gradient, output))
    weights = gradient.mean((-3, -2), keepdims=True)
    return jnp.maximum((weights * output).sum(-1), 0)


def _frame_map(model: nn.Module, output: Array, clips: tuple[int, ...]) -> Array | None:
    """A module's output, or the gradient of it, as a map [B, T, H, W, C]; None where it is none.

    Args:
        model: may say by its `frame_map` which of its modules' outputs are maps.
        output: of a module.
        clips: the shape of the network's clips.
    """
    if hasattr(model, "frame_map"):
        return model.frame_map(output, clips)
    batch, frames = clips[:2]
    if output.ndim == 5 and output.shape[0] == batch:
        return output
    rows = (batch * frames, batch * frames // model.segment_frames)  # folded frames, or segments
    if output.ndim == 4 and output.shape[0] in rows:
        return output.reshape(batch, -1, *output.shape[1:])
    return None


def _apply(
    model: nn.Module,
    variables: Mapping[str, Any],
    clips: Array,
    edit: Callable[[str, Any], Any],
) -> Array:
    """Logits [B, K], with every module's output replaced by `edit(name of the module, output)`."""
    open_calls = set()

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        # Only calls within `apply` have a path. A subclass that calls its base class's `__call__`
        # is intercepted twice.
        path = context.module.path if context.method_name == "__call__" else ()
        if not path or path in open_calls:
            return call(*args, **kwargs)
        open_calls.add(path)
        output = call(*args, **kwargs)
        open_calls.remove(path)
        return edit("/".join(path), output)

    with nn.intercept_methods(intercept):
        return model.apply(variables, clips, train=False)
