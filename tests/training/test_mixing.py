"""Mixup, CutMix and VideoMix: what they draw, and what becomes of clips and labels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.errors import UserError
from aia_jax.models.preprocess import preprocessing
from aia_jax.training.methods.supervised import make_train_step
from aia_jax.training.mixing import cut_box, cut_cuboid, draw_share, make_mix
from aia_jax.training.objective import Objective
from tests.helpers.processes import output, start
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_net import CLASSES, TinyNet, make_batch, make_state
from tests.helpers.tiny_state import META, assert_same

SIZES = ((4, 7, 9), (1, 7, 7))
cuts = {
    cut: {size: quick_jit(functools.partial(cut, size)) for size in SIZES}
    for cut in (cut_box, cut_cuboid)
}
seeds = st.integers(0, 2**32 - 1)


def make_train(**fields):
    usual = {"mixup": 0.0, "cutmix": 0.0, "videomix": 0.0, "mix_prob": 1.0}
    return ConfigDict(usual | {"batch_size": 4, "accumulate": 1} | fields)


ALL = make_train(mixup=0.8, cutmix=1.0, videomix=1.0, mix_prob=0.8)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0, 1, width=32), st.sampled_from(SIZES))
def test_the_share_is_exactly_what_lies_outside_the_box(seed, share, size):
    for cut in (cut_box, cut_cuboid):
        mask, outside = cuts[cut][size](jnp.float32(share), jax.random.key(seed))
        mask = np.asarray(mask)[..., 0]
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert float(outside) == pytest.approx(mask.mean(dtype=float), rel=2e-7)
        # A box: where its shadows on the three axes meet, every pixel is inside.
        inside = mask == 0
        shadows = [inside.any(tuple({0, 1, 2} - {axis})) for axis in range(3)]
        np.testing.assert_array_equal(inside, np.einsum("t,h,w->thw", *shadows))
        for shadow in shadows:
            assert np.abs(np.diff(np.pad(shadow.astype(int), 1))).sum() in (0, 2)
        if cut is cut_box:
            assert (inside == inside[0]).all()
        if share == 1:
            assert not inside.any()


def test_a_box_has_the_volume_of_lambda_where_no_edge_lies_outside():
    cut = quick_jit(functools.partial(cut_box, (2, 100, 50)))
    mask, outside = cut(jnp.float32(0.75), jax.random.key(4))
    inside = np.asarray(mask)[0, ..., 0] == 0
    assert (inside.any(1).sum(), inside.any(0).sum()) == (50, 25)
    assert float(outside) == 0.75


def test_a_cuboid_is_shorter_than_the_clip_and_lies_anywhere():
    keys, share = jax.random.split(jax.random.key(0), 400), jnp.float32(0.5)
    masks, shares = quick_jit(jax.vmap(lambda key: cut_cuboid((8, 8, 8), share, key)))(keys)
    inside = np.asarray(masks)[..., 0] == 0
    assert inside.any((2, 3)).sum(1).max() == 6  # of 8 frames, ∛0.5
    often = inside.mean(0)
    assert 0.02 < often.min() < often.max() < 0.6
    assert float(shares.min()) > 0.5


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_lambda_has_the_moments_of_beta(alpha):
    keys = jax.random.split(jax.random.key(0), 4000)
    shares = np.asarray(quick_jit(jax.vmap(draw_share, (0, None)))(keys, alpha))
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.fixture(scope="module")
def mix_all():
    """Four clips, and what the mix of all kinds makes of them and of labels 0 to 3."""
    rng = np.random.default_rng(0)
    clips = jnp.asarray(rng.normal(size=(4, 4, 6, 8, 3)), "float32")
    mix = quick_jit(make_mix(ALL))
    return clips, lambda key: jax.tree.map(np.asarray, mix(clips, jnp.eye(4), key))


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_clips_and_labels_are_mixed_with_their_neighbours_in_the_same_shares(mix_all, seed):
    clips, mix = mix_all
    mixed, shares = mix(jax.random.key(seed))
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
    own = shares[0, 0]
    neighbours = np.roll(np.eye(4), 1, axis=0)
    np.testing.assert_allclose(shares, own * np.eye(4) + (1 - own) * neighbours, rtol=1e-6)
    other = np.roll(clips, 1, axis=0)
    kept = (mixed - other) / (clips - other)
    np.testing.assert_allclose(kept.mean((1, 2, 3, 4)), own, atol=1e-3)


def test_each_mix_is_drawn_equally_often_and_some_steps_have_none(mix_all):
    clips, _ = mix_all
    keys = jax.random.split(jax.random.key(0), 600)
    mixed, shares = quick_jit(jax.vmap(lambda key: make_mix(ALL)(clips, jnp.eye(4), key)))(keys)
    same = np.isclose(mixed, clips).all(-1)  # [600, 4, T, H, W]
    unmixed = shares[:, 0, 0] == 1
    # No pixel of a clip stays under mixup. Under CutMix the same of each frame do, under VideoMix
    # others.
    blended = ~same.any((1, 2, 3, 4)) & ~unmixed
    boxes = (same == same[:, :, :1]).all((1, 2, 3, 4)) & ~blended & ~unmixed
    cuboids = ~blended & ~boxes & ~unmixed
    assert same[unmixed].all()
    # A box of no pixel also counts as unmixed, a cuboid through all frames as a box.
    assert 0.2 <= unmixed.mean() < 0.3
    assert 0.2 < blended.mean() < 0.32
    assert 0.2 < boxes.mean() < 0.38
    assert 0.15 < cuboids.mean() < 0.3


def test_without_an_alpha_nothing_is_mixed():
    assert make_mix(make_train()) is None
    assert make_mix(make_train(cutmix=1.0, mix_prob=0.0)) is None


def test_a_single_clip_has_none_to_mix_with():
    with pytest.raises(
        UserError, match=r"train\.cutmix: found 1\.0 .*accumulate.* at least 8 clips"
    ):
        make_mix(make_train(cutmix=1.0, accumulate=4))


def test_a_step_learns_by_the_mixed_labels_of_each_micro_batch():
    """Each micro-batch draws from its own key alone."""
    model, tx = TinyNet(batch_norm=False), optax.sgd(1.0)
    state, batch, key = make_state(model, tx), make_batch(8), jax.random.key(3)
    objective, mix = Objective(CLASSES, 0.1, np.array([0.5, 1.0, 2.0], "f4")), make_mix(ALL)
    step = quick_jit(make_train_step(model, tx, accumulate=2, objective=objective, mix=mix))
    new, means = step(state, batch, key)

    def loss(params):
        losses = []
        for part in range(2):
            micro_key = jax.random.fold_in(jax.random.fold_in(key, 0), part)
            rows = {name: x[part::2] for name, x in batch.items()}
            clips, shares = mix(
                preprocessing(model)(rows["clips"]),
                objective.targets(rows["labels"]),
                jax.random.fold_in(micro_key, 1),
            )
            logits = model.apply({"params": params}, clips)
            losses.append(objective.losses(logits, shares).mean())
        return sum(losses) / 2

    value, grads = quick_jit(jax.value_and_grad(loss))(state.params)
    assert float(means["loss"]) == pytest.approx(float(value), rel=1e-5)
    jax.tree.map(
        lambda new, old, grad: np.testing.assert_allclose(new, old - grad, rtol=1e-4, atol=1e-6),
        new.params,
        state.params,
        grads,
    )


@pytest.mark.parametrize("name", ["mixup", "cutmix", "videomix"])
def test_training_goes_on_exactly_from_a_checkpoint(name, tmp_path):
    """Each step draws for itself, by its number."""
    model, tx, key = TinyNet(), optax.sgd(0.1, momentum=0.9), jax.random.key(5)
    objective, mix = Objective(CLASSES, 0.1), make_mix(make_train(**{name: 1.0}))
    step = quick_jit(make_train_step(model, tx, objective=objective, mix=mix, ema_decay=0.5))

    def train(state, steps):
        for number in range(int(state.step), steps):
            state, _ = step(state, make_batch(4, number), key)
        return state

    state = make_state(model, tx, ema=True)
    middle = train(state, 3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, middle, META)
        checkpoints.wait()
        restored, _ = checkpoints.restore_latest(state)
    assert_same(train(restored, 5), train(middle, 5))
    losses = {
        float(step(middle.replace(step=number), make_batch(4), key)[1]["loss"])
        for number in np.arange(3, 6, dtype=np.int32)
    }
    assert len(losses) == 3


ON_FOUR_DEVICES = """
    import jax, numpy as np, optax
    from ml_collections import ConfigDict
    from aia_jax.sharding import batch_shardings, make_mesh, on_mesh, replicated, state_shardings
    from aia_jax.training.methods.supervised import make_train_step
    from aia_jax.training.mixing import make_mix
    from aia_jax.training.objective import Objective
    from tests.helpers.tiny_net import CLASSES, TinyNet, make_batch, make_state

    mesh = make_mesh({"data": 1, "fsdp": 2, "time": 2})
    whole, keys = replicated(mesh), list(jax.random.split(jax.random.key(3), 4))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    none = {"mixup": 0.0, "cutmix": 0.0, "videomix": 0.0, "mix_prob": 1.0}
    none |= {"batch_size": 4, "accumulate": 1}
    clips = np.random.default_rng(0).normal(size=(4, 6, 7, 9, 3)).astype("f4")
    batch = {"clips": clips, "labels": np.eye(4, dtype="f4")}
    placed = jax.device_put(batch, batch_shardings(mesh, batch))
    for name in ("mixup", "cutmix", "videomix"):
        mix = make_mix(ConfigDict(none | {name: 1.0}))
        run = lambda batch, key: mix(batch["clips"], batch["labels"], key)
        split, run, drawn = jax.jit(on_mesh(mesh, run)), jax.jit(run), set()
        for key in keys:
            found, expected = split(placed, jax.device_put(key, whole)), run(batch, key)
            np.testing.assert_array_equal(found[1], expected[1])  # λ, and what a box covers
            close(found[0], expected[0])
            drawn.add(float(expected[1][0, 0]))
        assert len(drawn) > 1
        parts = {shard.data.shape for shard in found[0].addressable_shards}
        assert parts == {(2, 3, 7, 9, 3)}, parts

    model, tx = TinyNet(), optax.sgd(0.1, momentum=0.9)
    state, batch = make_state(model, tx, ema=True), make_batch(4)
    mix = make_mix(ConfigDict(none | {"mixup": 0.8, "cutmix": 1.0, "videomix": 1.0}))
    step = make_train_step(model, tx, objective=Objective(CLASSES, 0.1), mix=mix, ema_decay=0.5)
    shardings = state_shardings(mesh, state, min_size=8)
    on_four = jax.jit(on_mesh(mesh, step), out_shardings=(shardings, whole))
    step = jax.jit(step)
    placed = jax.device_put((state, batch), (shardings, batch_shardings(mesh, batch)))
    for key in keys:
        found = on_four(*placed, jax.device_put(key, whole))
        jax.tree.map(close, found, step(state, batch, key))
"""


def test_mixes_are_those_of_one_device_on_a_mesh():
    """Rows and parameters are split over `fsdp`, frames over `time`."""
    output(start(ON_FOUR_DEVICES, 4, JAX_DISABLE_MOST_OPTIMIZATIONS="true"))
