"""A training step of the ViT on a mesh of four CPU devices against one device."""

from tests.helpers.processes import output, start

STEP_ON_FOUR_DEVICES = """
    import re, jax, numpy as np, optax
    from aia_jax import create_model
    from aia_jax.sharding import batch_shardings, make_mesh, on_mesh, replicated, state_shardings
    from aia_jax.training.methods.supervised import make_train_step
    from aia_jax.training.state import TrainState

    net = {
        "name": "vit", "size": "", "width": 32, "layers": 1, "heads": 4, "mlp_dim": 64, "patch": 8,
        "image_size": 16,
    }
    rng, tx, key = np.random.default_rng(0), optax.sgd(1.0), jax.random.key(1)
    batch = {
        "clips": rng.integers(0, 256, (8, 4, 16, 16, 3), np.uint8),
        "labels": rng.integers(3, size=8),
    }

    def moved(compiled):
        kinds = "all-gather|all-to-all|collective-permute"
        shapes = re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\\(", compiled.as_text())
        sizes = (size for shape in shapes for size in re.findall(r"\\[([\\d,]*)\\]", shape))
        return max(np.prod([int(n) for n in size.split(",") if n]) for size in sizes)

    base = create_model(400, name="vit")
    base = jax.eval_shape(base.init, key, np.zeros((1, 1, 224, 224, 3), "f4"))
    large = jax.tree.map(lambda leaf: leaf.size >= 2**16, base)
    split = jax.tree.map(
        lambda sharding: "fsdp" in sharding.spec,
        state_shardings(make_mesh({"data": 1, "fsdp": 4, "time": 1}), base),
    )
    assert split == large and sum(jax.tree.leaves(split)) == 12 * 6 + 3

    for shift, sizes in (
        ("KV", {"data": 1, "fsdp": 1, "time": 4}),
        ("token", {"data": 1, "fsdp": 2, "time": 2}),
    ):
        model = create_model(3, **net, shift=shift)
        shapes = jax.eval_shape(model.init, key, np.zeros((1, 4, 16, 16, 3), "f4"))
        variables = jax.tree.map(
            lambda leaf: rng.normal(0, 0.3, leaf.shape).astype("f4"), shapes
        )
        state = TrainState.create(variables, tx)
        alone = jax.jit(make_train_step(model, tx)).lower(state, batch, key).compile()
        expected = alone(state, batch, key)

        mesh = make_mesh(sizes)
        shardings, whole = state_shardings(mesh, state, min_size=256), replicated(mesh)
        arguments = jax.device_put(
            (state, batch, key), (shardings, batch_shardings(mesh, batch), whole)
        )
        step = make_train_step(create_model(3, **net, shift=shift, remat=(0,)), tx)
        step = jax.jit(on_mesh(mesh, step), out_shardings=(shardings, whole))
        step = step.lower(*arguments).compile()
        if sizes["fsdp"] == 1:  # or kernels are gathered too
            # One head each way of a frame of each clip: 8 clips, 5 tokens, 8 channels.
            assert moved(step) == 8 * 5 * 8, moved(step)
        share = step.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
        # A quarter, and the layer's forward pass again.
        assert share < 0.36, f"each of four devices computes {share:.0%}"
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            step(*arguments), expected,
        )
"""


def test_a_step_is_that_of_one_device_and_devices_exchange_what_moves():
    output(start(STEP_ON_FOUR_DEVICES, 4, JAX_DISABLE_MOST_OPTIMIZATIONS="true"))


SUMS_OF_HALF_PRECISION = """
    import re, tempfile
    from pathlib import Path
    import jax, numpy as np, optax
    from aia_jax import create_model
    from aia_jax.sharding import batch_shardings, make_mesh, on_mesh, replicated
    from aia_jax.training.methods.supervised import make_train_step
    from aia_jax.training.state import TrainState

    model, tx = create_model(
        3, name="vit", size="", width=32, layers=1, heads=4, mlp_dim=64, patch=8, image_size=16,
        shift="KV", dtype=jax.numpy.bfloat16,
    ), optax.sgd(1.0)
    clips = np.zeros((8, 4, 16, 16, 3), np.uint8)
    state = jax.eval_shape(
        lambda key: TrainState.create(model.init(key, clips[:1]), tx), jax.random.key(0)
    )
    batch = {"clips": clips, "labels": np.arange(8) % 3}
    mesh = make_mesh({"data": 2, "fsdp": 1, "time": 2})
    whole = replicated(mesh)
    place = lambda tree, shardings: jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree, shardings,
    )
    arguments = (
        place(state, jax.tree.map(lambda _: whole, state)),
        place(batch, batch_shardings(mesh, batch)),
        jax.device_put(jax.random.key(1), whole),
    )
    step = jax.jit(on_mesh(mesh, make_train_step(model, tx)), out_shardings=whole)
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd-partitioning"}
        step.lower(*arguments).compile(compiler_options=options)
        text, = (path.read_text() for path in Path(folder).glob("*after_spmd-partitioning*"))
    sums = re.findall(r"= (\\w+)\\[([\\d,]*)\\]\\S* (?:all-reduce|reduce-scatter)\\(", text)
    assert {("f32", "32,4,8"), ("f32", "32,64"), ("f32", "5,32")} <= set(sums), sums
    assert {dtype for dtype, _ in sums} == {"f32"}, sums
"""


def test_all_gradients_of_bfloat16_are_summed_in_float32():
    """Those of linear layers, their biases, the class token and the positions too."""
    output(start(SUMS_OF_HALF_PRECISION, 4, JAX_DISABLE_MOST_OPTIMIZATIONS="true"))
