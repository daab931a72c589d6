"""Parameters and multiply-accumulates of a network, counted by running it on shapes alone.

python -m aia_jax.complexity --config configs/ssv2_aia_tsm.py [--config.key=value …]
"""

import dataclasses
import math
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.errors import exit_status

GATE_MACS = 54  # a 3x3x3 convolution from two channels to one, padded, however it is computed


@dataclasses.dataclass(frozen=True)
class Complexity:
    """What a network costs for one clip.

    Attributes:
        params: trained numbers; running statistics are not among them.
        conv_macs: multiply-accumulates of the 2-D convolutions.
        dense_macs: of the linear layers.
        gate_macs: of the attention's convolutions, 54 for each output element.
        norm_elements: numbers that go through batch normalisation, the attention's included.
    """

    params: int
    conv_macs: int
    dense_macs: int
    gate_macs: int
    norm_elements: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers.

        Normalisation, activations and pools are not counted.
        """
        return self.conv_macs + self.dense_macs + self.gate_macs

    @property
    def paper_flops(self) -> int:
        """What the paper prints as FLOPs: `macs`, and two operations for each of `norm_elements`.

        Plain ResNet-50 has 32.88G.
        """
        return self.macs + 2 * self.norm_elements


def count(model: nn.Module, clip_shape: tuple[int, int, int, int] = (8, 224, 224, 3)) -> Complexity:
    """Counts a network on one clip.

    Args:
        model: from `create_model`.
        clip_shape: [T, H, W, 3].
    """
    counts = dict.fromkeys(("conv_macs", "dense_macs", "gate_macs"), 0)
    # Keyed by path, because a BatchNorm is recorded twice: our own call, and Flax's inside it.
    normed: dict[tuple[str, ...], int] = {}

    def record(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        out = call(*args, **kwargs)
        if context.method_name != "__call__":
            return out
        match context.module:
            case nn.Conv() as conv:
                inputs = args[0].shape[-1] // conv.feature_group_count
                counts["conv_macs"] += out.size * inputs * math.prod(conv.kernel_size)
            case nn.Dense():
                counts["dense_macs"] += out.size * args[0].shape[-1]
            case nn.BatchNorm():
                normed[context.module.path] = out.size
            # Attention whose convolutions and BatchNorm are no Flax modules says what it computes.
            case attention if hasattr(attention, "gate_sizes"):
                elements = sum(attention.gate_sizes(args[0].shape))
                counts["gate_macs"] += elements * GATE_MACS
                normed[attention.path] = elements
        return out

    clips = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    with nn.intercept_methods(record):
        # The lambda is a new function, so `eval_shape` cannot answer from its cache.
        variables = jax.eval_shape(
            lambda key, clips: model.init(key, clips), jax.random.key(0), clips
        )
    return Complexity(
        params=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        norm_elements=sum(normed.values()),
        **counts,
    )


def main(argv: list[str] | None = None) -> None:
    """Prints what a recipe's network costs, beside the networks that it is compared with."""
    # Counting needs jax and flax only; the command needs the rest.
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from aia_jax import config as configs
    from aia_jax.models import model_from_config

    about = "Parameters and multiply-accumulates of a recipe's network, and of its variants."
    options = configs.parse(argv, about, workdir=False)
    data, model = options.config.data, model_from_config(options.config)
    clip_shape = (data.num_frames, data.crop, data.crop, 3)
    total = count(model, clip_shape)
    print(
        f"{options.config_name}: {total.params:,} parameters, {total.macs:,} multiply-accumulates"
    )
    size = " x ".join(map(str, clip_shape))
    print(
        f"for one clip of {size} and {model.num_classes} classes; counted as the paper does: "
        f"{total.paper_flops / 1e9:.2f}G"
    )

    variants = model.variants()
    table = Table(*variants[0], title="All variants of this network")
    for column in ("parameters", "MACs", "paper's G"):
        table.add_column(column, justify="right")
    console = Console()
    for fields in track(variants, "counting", console=console, transient=True):
        costs = count(model.clone(**fields), clip_shape)
        this_network = all(getattr(model, field) == value for field, value in fields.items())
        table.add_row(
            *map(str, fields.values()),
            f"{costs.params:,}",
            f"{costs.macs:,}",
            f"{costs.paper_flops / 1e9:.2f}",
            style="bold" if this_network else None,
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(exit_status(main))
