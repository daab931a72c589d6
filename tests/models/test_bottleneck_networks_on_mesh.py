"""GST, C3D, H2CN and non-local blocks on four CPU devices, in a process of their own."""

import os
import subprocess
import sys
import textwrap

from tests.helpers.paths import ROOT

FOUR_DEVICES = """
    import functools, re, tempfile
    from pathlib import Path
    import jax, jax.numpy as jnp, numpy as np
    from aia_jax import create_model
    from aia_jax.models import clip_shape
    from aia_jax.sharding import batch_shardings, make_mesh, on_mesh, replicated

    rng = np.random.default_rng(0)
    narrow = {"width": 8, "stem": "small", "dropout": 0.0}
    mesh = make_mesh({"data": 1, "fsdp": 2, "time": 2})
    whole = replicated(mesh)

    def step(model, variables, batch):
        def loss(params):
            logits, updated = model.apply(
                {**variables, "params": params}, batch["clips"], train=True, mutable=["batch_stats"]
            )
            return (logits**2).sum(), (logits, updated["batch_stats"])
        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    def prepare(dtype=jnp.float64, **fields):
        model = create_model(3, 4, **narrow, **fields, dtype=dtype)
        batch = {"clips": rng.normal(size=(4, *clip_shape(model, 8)))}
        shapes = jax.eval_shape(model.init, jax.random.key(0), batch["clips"][:1])
        stored = jnp.promote_types(dtype, jnp.float32)
        drawn = jax.tree.map(lambda leaf: rng.uniform(-0.3, 0.5, leaf.shape).astype(stored), shapes)
        drawn["batch_stats"] = jax.tree.map(np.abs, drawn["batch_stats"])
        arguments = jax.device_put((drawn, batch), (whole, batch_shardings(mesh, batch)))
        return functools.partial(step, model), (drawn, batch), arguments

    def split(run, arguments):
        return jax.jit(on_mesh(mesh, run), out_shardings=whole).lower(*arguments)

    for fields in (
        {"name": "gst", "stage_sizes": (1,)},
        {"name": "c3d", "stage_sizes": (1,), "bn_group_size": 2},
        {"name": "h2cn", "stage_sizes": (1,), "bn_group_size": 2},
        {"temporal": "tsm", "non_local": True, "stage_sizes": (1, 1)},
    ):
        run, unsplit, arguments = prepare(**fields)
        alone = jax.jit(run).lower(*unsplit).compile()
        on_four = split(run, arguments).compile()
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9),
            on_four(*arguments), alone(*unsplit),
        )
        share = on_four.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
        assert share < 0.28, f"{fields}: each of four devices computes {share:.0%}"

    # The program as it is partitioned: XLA's CPU backend changes bfloat16 later.
    run, _, arguments = prepare(jnp.bfloat16, name="c3d", stage_sizes=(1,))
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd-partitioning"}
        split(run, arguments).compile(compiler_options=options)
        text, = (path.read_text() for path in Path(folder).glob("*after_spmd-partitioning*"))
    sums = re.findall(r"= (\\w+)\\[([\\d,]*)\\]\\S* (?:all-reduce|reduce-scatter)\\(", text)
    assert ("f32", "3,3,8,24") in sums, sums  # conv2's, its three frames side by side
    assert {dtype for dtype, _ in sums} == {"f32"}, sums
"""


def test_results_are_those_of_one_device_and_each_computes_its_own_frames():
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_ENABLE_X64": "true",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    }
    program = textwrap.dedent(FOUR_DEVICES)
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, check=True, timeout=400)
