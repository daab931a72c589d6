"""Parameters and multiply-accumulates of a network, counted by running it on shapes alone.

python -m aia_jax.complexity --config configs/ssv2_aia_tsm.py [--config.key=value …]
python -m aia_jax.complexity --family                  every network, beside published numbers
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax import models
from aia_jax.errors import exit_status

_WIDTH = 170  # letters in a line of a table; files hold it whole

GATE_MACS = 54  # a 3x3x3 convolution from two channels to one, padded, however it is computed


@dataclasses.dataclass(frozen=True)
class Complexity:
    """What a network costs for one clip.

    Attributes:
        params: trained numbers; running statistics are not among them.
        conv_macs: multiply-accumulates of the convolutions.
        dense_macs: of the linear layers.
        gate_macs: of axis attention's convolutions, 54 for each output element.
        norm_elements: numbers that go through batch normalisation, the attention's included.
        attention_macs: of products between activations, such as queries and keys.
        published_attention_macs: those of them that the network's paper counts among its MACs.
        pool_elements: numbers that go into and come out of the attention's average pools.
        repeated_macs: multiply-accumulates that the AIA paper counts besides `macs`, because it
            counts for every frame what is computed once for a clip.
    """

    params: int
    conv_macs: int
    dense_macs: int
    gate_macs: int
    norm_elements: int
    attention_macs: int = 0
    published_attention_macs: int = 0
    pool_elements: int = 0
    repeated_macs: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates as papers count them: of convolutions and linear layers.

        Products between activations are among them where the network's paper has them.
        Normalisation, activations and pools are not counted.
        """
        layers = self.conv_macs + self.dense_macs + self.gate_macs
        return layers + self.published_attention_macs

    @property
    def paper_flops(self) -> int:
        """What the AIA paper prints as FLOPs.

        It is `macs` and `repeated_macs`, two operations for each of `norm_elements`, and one for
        each of `pool_elements`. Plain ResNet-50 has 32.88G.
        """
        return self.macs + self.repeated_macs + 2 * self.norm_elements + self.pool_elements


def count(model: nn.Module, clip_shape: tuple[int, int, int, int] | None = None) -> Complexity:
    """Counts a network on one clip.

    Args:
        model: from `create_model`.
        clip_shape: [T, H, W, 3]; None: 8 segments of the network's frames, of its size or 224x224.
    """
    counts = dict.fromkeys(
        (
            "conv_macs",
            "dense_macs",
            "gate_macs",
            "attention_macs",
            "published_attention_macs",
            "pool_elements",
            "repeated_macs",
        ),
        0,
    )
    # Keyed by path, because a BatchNorm is recorded twice: our own call, and Flax's inside it.
    normed: dict[tuple[str, ...], int] = {}

    def record(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        out = call(*args, **kwargs)
        if context.method_name != "__call__":
            return out
        module = context.module
        match module:
            case nn.Conv() as conv:
                inputs = args[0].shape[-1] // conv.feature_group_count
                counts["conv_macs"] += out.size * inputs * math.prod(conv.kernel_size)
            case nn.Dense():
                counts["dense_macs"] += out.size * args[0].shape[-1]
            case nn.DenseGeneral() as dense:
                axes = dense.axis if isinstance(dense.axis, Iterable) else (dense.axis,)
                counts["dense_macs"] += out.size * math.prod(args[0].shape[axis] for axis in axes)
            case nn.BatchNorm():
                normed[module.path] = out.size
        # A module that computes what no layer of Flax does says how much it is.
        if hasattr(module, "gate_sizes"):
            elements = sum(module.gate_sizes(args[0].shape))
            counts["gate_macs"] += elements * GATE_MACS
            normed[module.path] = elements
        if hasattr(module, "conv_macs"):
            counts["conv_macs"] += module.conv_macs(args[0].shape)
        if hasattr(module, "product_macs"):
            macs = module.product_macs(args[0].shape)
            counts["attention_macs"] += macs
            counts["published_attention_macs"] += macs if module.products_in_macs else 0
        if hasattr(module, "pool_elements"):
            counts["pool_elements"] += module.pool_elements(args[0].shape)
        if hasattr(module, "repeated_macs"):
            counts["repeated_macs"] += module.repeated_macs(args[0].shape)
        return out

    shape = clip_shape or models.clip_shape(model.clone(num_frames=8))
    clips = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
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
    from aia_jax import config as configs  # counting needs jax and flax only; the command more

    if (sys.argv[1:] if argv is None else argv) == ["--family"]:
        print_family()
        return
    about = "Parameters and multiply-accumulates of a recipe's network, and of its variants."

    def add_flags(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--family",
            action="store_true",
            help="also every network that is here; needs no --config",
        )

    options = configs.parse(argv, about, add_flags, workdir=False)
    crop, model = options.config.data.crop, models.model_from_config(options.config)
    clip_shape = models.clip_shape(model, crop)
    total = count(model, clip_shape)
    print(
        f"{options.config_name}: {total.params:,} parameters, {total.macs:,} multiply-accumulates"
    )
    size = " x ".join(map(str, clip_shape))
    print(
        f"for one clip of {size} and {model.num_classes} classes; counted as the AIA paper does: "
        f"{total.paper_flops / 1e9:.2f}G"
    )
    print_variants(model, crop)
    if options.family:
        print_family()


def print_variants(model: nn.Module, crop: int) -> None:
    """Prints the costs of the networks that a network is compared with, itself in bold."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    variants = [model.clone(**fields) for fields in model.variants()]
    fields = list(dict.fromkeys(field for variant in model.variants() for field in variant))
    table = Table(*fields, box=None, title="All variants of this network")
    for column in ("parameters", "MACs", "attention", "as AIA counts"):
        table.add_column(column, justify="right", no_wrap=True)
    for variant in track(variants, "counting", transient=True):
        costs = count(variant, models.clip_shape(variant, crop))
        table.add_row(
            *(str(getattr(variant, field)) for field in fields),
            f"{costs.params:,}",
            f"{costs.macs:,}",
            f"{costs.attention_macs:,}",
            f"{costs.paper_flops / 1e9:.2f}",
            style="bold" if variant == model else None,
        )
    Console(width=_WIDTH).print(table)


def print_family() -> None:
    """Prints the costs of every network of the table and its variants, beside published ones.

    They are of 174 classes and 8 frames (or segments) of 224x224 pixels.
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from aia_jax.published_costs import PUBLISHED_COSTS

    family = [
        plain.clone(**fields)
        for plain in (models.create_model(174, name=name) for name in models.NETWORKS)
        for fields in plain.variants()
    ]
    table = Table(
        "network", box=None, title="174 classes, one clip of 8 frames or segments of 224x224"
    )
    for column in ("parameters", "MACs", "attention", "as AIA counts", "published", "G"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for model in track(family, "counting", transient=True):
        costs = count(model, models.clip_shape(model))
        published = PUBLISHED_COSTS.get(model.describe(), ("", "", ""))
        segments = "" if model.num_frames == 8 else f", {model.num_frames} segments"
        table.add_row(
            f"{model.describe()}{segments}",
            f"{costs.params:,}",
            f"{costs.macs:,}",
            f"{costs.attention_macs:,}",
            f"{costs.paper_flops / 1e9:.2f}",
            *published,
        )
    Console(width=_WIDTH).print(table)
    print(
        "MACs are those of convolutions and linear layers, and of attention (products between "
        "activations) where the published number has them."
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
