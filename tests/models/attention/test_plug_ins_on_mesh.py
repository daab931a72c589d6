"""The modules of Table I on a mesh that splits clips and their frames over four devices."""

import os
import subprocess
import sys
import textwrap

from tests.helpers.paths import ROOT

PROGRAM = """
    import re, jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec
    from aia_jax.models.attention.expression import Attention
    from aia_jax.sharding import make_mesh, on_mesh, replicated
    from tests.helpers.tiny_variables import drawn

    mesh = make_mesh({"data": 2, "fsdp": 1, "time": 2})
    clips = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), "time"))
    rng = np.random.default_rng(0)
    x, cotangent = (rng.normal(size=(4, 4, 16, 16, 32)).astype("f4") for _ in range(2))

    def moved(compiled):
        kinds = "all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter"
        shapes = re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\\(", compiled.as_text())
        sizes = (size for shape in shapes for size in re.findall(r"\\[([\\d,]*)\\]", shape))
        return max(np.prod([int(n) for n in size.split(",") if n]) for size in sizes)

    for name in ("SE3D", "GE3D-DW333", "CBAM3D377"):
        attention = Attention(name, bn_group_size=2)
        variables = drawn(attention, x, False)

        def gradients(params, x, cotangent):
            def loss(params, x):
                y, updates = attention.apply(
                    {**variables, "params": params}, x, True, mutable=["batch_stats"]
                )
                return (y * cotangent).sum(), (y, updates)
            return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)

        arguments = variables["params"], x, cotangent
        alone = jax.jit(gradients).lower(*arguments).compile()
        split = jax.jit(on_mesh(mesh, gradients)).lower(
            *jax.device_put(arguments, (replicated(mesh), clips, clips))
        ).compile()
        found = split(*jax.device_put(arguments, (replicated(mesh), clips, clips)))
        expected = alone(*arguments)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            # Only the order of sums differs: rounding is relative to the largest of them.
            atol = max(1e-4, 1e-5 * abs(b).max())
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=name)
        share = split.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
        # Sums of groups and of kernels are small, but every device computes them.
        assert share < 0.35, f"{name}: each of four devices computes {share:.1%}"
        # A border is a frame of halved height and width; a device has two frames of each clip.
        limit = x.size / 4 / 2 / 4
        assert moved(split) <= limit, f"{name}: {moved(split)} numbers move, more than {limit}"
"""


def test_devices_compute_their_own_frames_and_exchange_borders():
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "SLURM_"))
    }
    environment |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
