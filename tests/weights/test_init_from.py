"""Fine-tuning is worth it: on classes that the start has never seen, it beats a run from scratch of
as many steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax import create_model
from aia_jax.demo.synthetic import CLASSES, PAIRS, draw_scene, render
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.state import TrainState
from aia_jax.training.step import make_eval_step, make_train_step
from aia_jax.weights.files import save_folder
from aia_jax.weights.init_from import load_start
from configs import base

MODEL = create_model(
    4, temporal="tsm", stem="small", width=8, stage_sizes=(1, 1), fold_div=4, dropout=0.0
)
BATCH = 16


def videos(pairs, count, seed):
    """Clips uint8 [count, 4, 16, 16, 3] and labels of these pairs of classes, reversed ones among
    them.
    """
    rng = np.random.default_rng(seed)
    clips, labels = [], []
    for number in range(count):
        side, which = number % 2, number // 2 % len(pairs)
        frames = render(draw_scene(pairs[which], rng), rng)
        frames = frames[np.linspace(2, len(frames) - 3, 4).astype(int), 2::4, 2::4]
        clips.append(frames[::-1] if side else frames)
        labels.append(2 * which + side)
    return np.stack(clips), np.array(labels)


def test_half_of_the_classes_helps_the_other_half(tmp_path):
    optim = base.get_config().optim
    optim.update(lr=0.05, lr_batch_size=BATCH)
    tx, _ = make_optimizer(optim, 1000, BATCH)
    step = jax.jit(make_train_step(MODEL, tx))
    test = jax.jit(make_eval_step(MODEL))

    def train(variables, pairs, steps):
        state, (clips, labels) = TrainState.create(variables, tx), videos(pairs, 320, seed=1)
        rng = np.random.default_rng(0)
        for _ in range(steps):
            rows = rng.permutation(len(labels))[:BATCH]
            state, _ = step(
                state, {"clips": clips[rows], "labels": labels[rows]}, jax.random.key(0)
            )
        clips, labels = videos(pairs, 96, seed=2)
        sums = test(
            state.eval_variables(), {"clips": clips, "labels": labels, "weights": np.ones(96, "f4")}
        )
        return state.eval_variables(), float(sums["top1"]) / 96, float(sums["loss"]) / 96

    first, second = (0, 2), (1, 3)  # of PAIRS
    init = jax.jit(MODEL.init)
    clip = jnp.zeros((1, 1, 16, 16, 3))
    pretrained, _, _ = train(init(jax.random.key(1), clip), first, 250)
    names = [name for pair in first for name in PAIRS[pair]]
    save_folder(tmp_path / "weights", pretrained, {"class_names": names})

    fresh = init(jax.random.key(2), clip)
    start, report = load_start(
        tmp_path / "weights", fresh, [name for name in CLASSES if name not in names]
    )
    assert set(report.fresh) == {"params/head/kernel", "params/head/bias"}
    _, tuned, tuned_loss = train(start, second, 40)
    _, scratch, scratch_loss = train(fresh, second, 40)
    assert tuned > scratch and tuned_loss < scratch_loss
