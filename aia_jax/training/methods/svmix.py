"""SV-Mix: clips mixed where a learned module selects (Tan et al. 2023, arXiv 2309.09534).

Beside the network are a teacher, which is a moving average of it, and a selective module, which
makes masks from the teacher's features. A step mixes its clips twice: one mix, whose mask gets no
gradient, trains the network; the other goes through the teacher and trains the module. The teacher
is what is evaluated.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from aia_jax.errors import UserError
from aia_jax.models.fields import value_text
from aia_jax.models.preprocess import preprocessing
from aia_jax.shapes import Array, PyTree
from aia_jax.training.freezing import Frozen, nothing_frozen
from aia_jax.training.objective import Objective
from aia_jax.training.selective_module import SelectiveModule
from aia_jax.training.state import TrainState
from aia_jax.training.step import (
    Batch,
    Method,
    Metrics,
    accumulated_gradients,
    apply_gradients,
    step_key,
)
from aia_jax.training.volume_mix import (
    Draw,
    Mix,
    draw_mixes,
    hold_near_ends,
    mix_targets,
    salient_share,
    size_penalty,
    spread_mask,
)


def make_method(
    config: Any,
    model: nn.Module,
    tx: optax.GradientTransformation,
    frozen: Frozen,
    objective: Objective,
) -> Method:
    """The method of a recipe: `config.svmix` has its settings.

    Raises:
        UserError: the network, the batch, the data or another setting does not go with it.
    """
    _check(config, model, objective)
    settings, train = config.svmix, config.train
    rate = settings.lr * train.batch_size / config.optim.lr_batch_size
    module_tx = make_module_optimizer(rate, settings.momentum, settings.weight_decay)

    def create(variables: PyTree, key: Array) -> TrainState:
        return create_state(model, tx, module_tx, variables, key)

    step = make_svmix_step(
        model,
        tx,
        module_tx,
        objective,
        accumulate=train.accumulate,
        ema_decay=settings.ema_decay,
        mode=settings.mode,
        draw=draw_mixes(settings.mode, settings.prob),
        frozen=frozen,
    )
    masks = "spatial and temporal" if settings.mode == "both" else settings.mode
    return Method(
        create,
        step,
        text=f"SV-Mix, {masks} masks, LR of their module {rate:.4g}; tested: the teacher, the "
        f"weights' moving average, decay {settings.ema_decay:g}",
        old_share=settings.ema_decay**train.accumulate,
        rates=("optim.lr", "svmix.lr"),
    )


def make_module_optimizer(
    lr: float, momentum: float = 0.9, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """The module's SGD, torch's: no clipping, weight decay on all it has, a constant rate."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.trace(momentum), optax.scale(-lr)
    )


def create_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    module_tx: optax.GradientTransformation,
    variables: PyTree,
    key: Array,
) -> TrainState:
    """The state before the first step.

    The teacher starts as the network, but with a random head of its own: the released code builds
    it as a second network around the same pretrained weights. Classes whose column of the head was
    loaded keep it; a class whose bias is exactly 0 has a fresh one.

    Args:
        model: the network.
        tx: its optimiser.
        module_tx: the module's optimiser.
        variables: that the run starts from.
        key: of the teacher's head and of the module.
    """
    head_key, module_key = jax.random.split(key)
    # Nothing of the module depends on the clip's size but its inputs, the features' channels.
    clip = jax.ShapeDtypeStruct((1, *_smallest_clip(model)), jnp.float32)
    maps = jax.eval_shape(lambda v, c: model.apply(v, c, method="features"), variables, clip)
    features = jnp.zeros((1, 1, 1, 1, maps.shape[-1]))
    nobody = jnp.zeros(1, jnp.int32)
    module = SelectiveModule().init(module_key, features, jnp.float32(0.5), nobody, True)["params"]
    kept = {"module": module, "opt_state": module_tx.init(module)}
    state = TrainState.create(variables, tx, ema=True, method_state=kept)
    teacher = dict(state.ema["params"])
    if "head" in teacher:
        teacher["head"] = _draw_head(teacher["head"], head_key)
    return state.replace(ema={**state.ema, "params": teacher})


def _smallest_clip(model: Any) -> tuple[int, int, int, int]:
    """[T, H, W, 3] of a clip of one segment."""
    return model.segment_frames, *getattr(model, "image_size", (64, 64)), 3


def _draw_head(head: dict[str, Array], key: Array) -> dict[str, Array]:
    """Draws torch's first values of a linear layer for the classes whose bias is 0."""
    limit = head["kernel"].shape[0] ** -0.5
    fresh = head["bias"] == 0

    def drawn(key: Array, old: Array) -> Array:
        new = jax.random.uniform(key, old.shape, old.dtype, -limit, limit)
        return jnp.where(fresh, new, old)

    keys = jax.random.split(key)
    return {**head, "kernel": drawn(keys[0], head["kernel"]), "bias": drawn(keys[1], head["bias"])}


def make_svmix_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    module_tx: optax.GradientTransformation,
    objective: Objective,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.999,
    mode: str = "both",
    draw: Draw | None = None,
    frozen: Frozen = nothing_frozen,
    preprocess: Callable[[Array], Array] | None = None,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]:
    """Builds `train_step(state, batch, key) -> (state, metrics)`; jit it with `donate_argnums=0`.

    With micro-batches each draws for itself, is mixed within itself, and moves the teacher, which
    follows the network by 1 − d after every one of them: the first ones towards the old network,
    the last one towards the new. Network and module take one step each, by the mean gradients.

    Args:
        model: has `features`, besides what `make_train_step` needs.
        tx: of the network.
        module_tx: of the module, from `make_module_optimizer`.
        objective: from `make_objective`; one label a video.
        accumulate: micro-batches a step, see `accumulated_gradients`.
        ema_decay: d of `teacher = d·teacher + (1 − d)·network`, for parameters. The teacher's
            running statistics are not averaged: they come from its own two passes a micro-batch.
        mode: of the module.
        draw: None draws as `draw_mixes(mode)` does.
        frozen: the optimiser's rule, from `frozen_rule`.
        preprocess: from the batch's pixels to what the model takes; None takes the model's own.

    Returns:
        The step of `Method`, for a state of `create_state`. Its metrics are those of the network's
        mix, where top-1 and top-5 look for the label with the larger share; and `teacher_loss`,
        `mask_penalty` and `module_grad_norm` of the module's.
    """
    preprocess = preprocess or preprocessing(model)
    draw = draw or draw_mixes(mode)
    module = SelectiveModule(mode)
    teacher_model = model.clone(dropout=0.0) if hasattr(model, "dropout") else model

    def run(
        network: nn.Module, variables: PyTree, clips: Array, key: Any = None, method: Any = None
    ) -> tuple[Array, PyTree]:
        """A training-mode pass: what it returns, and the new running statistics."""
        rngs = {} if key is None else {"dropout": key}
        output, new = network.apply(
            variables, clips, train=True, rngs=rngs, mutable=["batch_stats"], method=method
        )
        return output, new.get("batch_stats", {})

    def loss(
        params: PyTree, carried: PyTree, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, Metrics]]:
        """The network's loss and the module's; the teacher gets no gradient.

        Args:
            params: {"network", "module"}.
            carried: {"batch_stats", "teacher", "moves"}: the network's statistics, the teacher's
                variables, and whether the teacher has to follow the network before its first pass,
                because a micro-batch came before this one.
            batch: a micro-batch.
            key: of the micro-batch.
        """
        draw_key, dropout_key = jax.random.split(key)
        pixels, targets = batch["clips"], objective.targets(batch["labels"])
        draws = draw(draw_key, pixels.shape[0])
        clips = preprocess(pixels)  # [B, T, H, W, 3]
        network = jax.tree.map(
            lambda p, held: jax.lax.stop_gradient(p) if held else p,
            params["network"],
            frozen(params["network"]),
        )

        teacher = carried["teacher"]
        followed = follow(teacher["params"], jax.lax.stop_gradient(network))
        teacher_params = jax.tree.map(
            lambda new, old: jnp.where(carried["moves"], new, old), followed, teacher["params"]
        )
        features, teacher_stats = run(
            teacher_model, {**teacher, "params": teacher_params}, clips, method="features"
        )

        def select(mix: Mix) -> Array:
            """The weight of the partner, [B, T, h, w] of the features."""
            return module.apply({"params": params["module"]}, features, *mix, draws.temporal)

        def mixed(mask: Array, mix: Mix) -> Array:
            weight = spread_mask(mask, clips.shape[1:4])
            # Pixels move between devices as bytes.
            return (1 - weight) * clips + weight * preprocess(pixels[mix.partner])

        mix = draws.trains_network
        mask = hold_near_ends(jax.lax.stop_gradient(select(mix)), mix.share)
        shares = salient_share(features, mask, mix.partner)
        labels = mix_targets(targets, shares, mix.partner)
        logits, batch_stats = run(
            model,
            {"params": network, "batch_stats": carried["batch_stats"]},
            mixed(mask, mix).astype(clips.dtype),
            dropout_key,
        )
        losses = objective.losses(logits, labels)
        means = objective.means(losses, logits, labels)

        mix = draws.trains_module
        mask = select(mix)
        teacher_logits, teacher_stats = run(
            teacher_model,
            {"params": teacher_params, "batch_stats": teacher_stats},
            mixed(mask, mix).astype(clips.dtype),
        )
        teacher_labels = mix_targets(targets, mix.share, mix.partner)
        teacher_loss = objective.losses(teacher_logits, teacher_labels).mean()
        penalty = size_penalty(mask, mix.share)

        carried = {
            "batch_stats": batch_stats,
            "teacher": {"params": teacher_params, "batch_stats": teacher_stats},
            "moves": jnp.asarray(True),
        }
        means |= {"teacher_loss": teacher_loss, "mask_penalty": penalty}
        return means["loss"] + teacher_loss + penalty, (carried, means)

    def follow(teacher: PyTree, network: PyTree) -> PyTree:
        return jax.tree.map(lambda t, n: ema_decay * t + (1 - ema_decay) * n, teacher, network)

    gradients = accumulated_gradients(loss, accumulate)

    def train_step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        kept = state.method_state
        grads, carried, means = gradients(
            {"network": state.params, "module": kept["module"]},
            {"batch_stats": state.batch_stats, "teacher": state.ema, "moves": jnp.asarray(False)},
            batch,
            step_key(key, state),
        )
        updates, opt_state = module_tx.update(grads["module"], kept["opt_state"], kept["module"])
        module_grad_norm = optax.tree.norm(grads["module"])
        state, grad_norm = apply_gradients(
            state.replace(ema=None), tx, grads["network"], carried["batch_stats"]
        )
        teacher = carried["teacher"]
        state = state.replace(
            ema={**teacher, "params": follow(teacher["params"], state.params)},
            method_state={
                "module": optax.apply_updates(kept["module"], updates),
                "opt_state": opt_state,
            },
        )
        # The log stops at a loss that is not finite; a module that is lost must stop it too.
        means["loss"] = jnp.where(jnp.isfinite(module_grad_norm), means["loss"], jnp.nan)
        return state, {**means, "grad_norm": grad_norm, "module_grad_norm": module_grad_norm}

    return train_step


def _check(config: Any, model: nn.Module, objective: Objective) -> None:
    """Checks what the method cannot work with.

    Raises:
        UserError: names the key, what was found and what to do.
    """
    train, mode = config.train, config.svmix.mode

    def refuse(key: str, found: Any, reason: str) -> None:
        raise UserError(
            f"config key {key}: found {value_text(found)} with train.method=svmix, {reason}"
        )

    if not hasattr(model, "features"):
        refuse("model.name", config.model.name, "which needs a network with a method `features`")
    if train.batch_size // train.accumulate < 2:
        parts = f" in {train.accumulate} parts (train.accumulate)" if train.accumulate > 1 else ""
        refuse(
            "train.batch_size",
            train.batch_size,
            f"which mixes each clip{parts} with another: use at least {2 * train.accumulate}",
        )
    if objective.multilabel:
        raise UserError(
            "config key train.method: found svmix, which shares one label a video, and these "
            "videos have several: use supervised"
        )
    for name in ("mixup", "cutmix", "videomix"):
        if train[name]:
            refuse(f"train.{name}", train[name], "which mixes clips itself: set 0")
    if train.ema_decay:
        refuse(
            "train.ema_decay",
            train.ema_decay,
            "whose teacher is a moving average already: set 0, and svmix.ema_decay as you like",
        )
    if config.data.num_frames == 1 and mode != "spatial":
        refuse(
            "svmix.mode",
            mode,
            "but clips have one frame (data.num_frames), and a temporal mask is of several: use "
            "svmix.mode=spatial",
        )
