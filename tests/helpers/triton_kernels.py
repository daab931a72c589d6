"""Triton kernels without a GPU: interpreted on a CPU, or lowered for CUDA."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from aia_jax.ops.triton.availability import triton


@contextlib.contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Operations traced within take their form for CUDA, whose kernels Pallas interprets."""

    def choose_cuda(*operands, default, cuda=None, **_):
        return (cuda or default)(*operands)

    def multiply_add(instruction, *, args, **_):
        assert instruction.startswith("fma.rn.f32")
        return [args[0] * args[1] + args[2]]

    jax.clear_caches()  # the form is chosen while tracing, once for each shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "pallas_call", functools.partial(pl.pallas_call, interpret=True))
        patch.setattr(jax.lax, "platform_dependent", choose_cuda)
        patch.setattr(triton, "elementwise_inline_asm", multiply_add)
        yield
    jax.clear_caches()


def lowered_text(function: Callable[..., Any], *operands: Any, platform: str) -> str:
    """The StableHLO of a function for "cpu", "cuda" or "tpu", on a machine without it."""
    h100 = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=h100)):
        traced = jax.jit(function).trace(*operands)
        return traced.lower(lowering_platforms=(platform,)).as_text()
