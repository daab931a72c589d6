"""The ways to train that a recipe's argument may name beside the network.

    --config configs/ssv2.py:tsm,svmix        --config configs/ucf101.py:vit,modern

Without one a network is trained by the recipe of its authors. docs/training.md explains what the
methods do, and which of them is for which size of data.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Settings(NamedTuple):
    """What a method sets, by kind of network: dotted keys of a config. Later fields win."""

    every: Mapping[str, Any] = {}
    convolutional: Mapping[str, Any] = {}
    # Convolutional networks without a recipe of their own authors: TSN, TSM and their gates, C3D.
    without_recipe: Mapping[str, Any] = {}
    transformers: Mapping[str, Any] = {}

    def of(self, network: str, has_recipe: bool) -> dict[str, Any]:
        """The keys and values for one network.

        Args:
            network: `name` of the network's class in `aia_jax.models.NETWORKS`.
            has_recipe: whether its row of configs/networks.py has a recipe.
        """
        if network == "vit":
            return {**self.every, **self.transformers}
        return {
            **self.every,
            **self.convolutional,
            **({} if has_recipe else self.without_recipe),
        }


class Method(NamedTuple):
    """A row of the table of methods."""

    title: str  # for people
    settings: Settings  # of networks of full size


# AdamW as SV-Mix's authors train ViViT by (experiments/eg_vivit.yaml of their code).
_ADAMW = {
    "optim.name": "adamw",
    "optim.lr": 2e-4,
    "optim.lr_batch_size": 32,
    "optim.betas": (0.9, 0.999),
    "optim.weight_decay": 0.05,
    "optim.clip_norm": 1.0,
    "optim.schedule": "cosine",
    "optim.milestones": (),
    "optim.warmup_epochs": 5.0,
    "train.batch_size": 32,
    "train.accumulate": 1,
    "train.epochs": 50,
}
# The authors' tsm_resnet50: five and ten times the learning rate for the head.
_SVMIX_GROUPS = (
    (r"head/kernel", {"lr": 5.0, "decay": 1.0}),
    (r"head/bias", {"lr": 10.0, "decay": 0.0}),
    (r".*/kernel", {"lr": 1.0, "decay": 1.0}),
    (r".*/(scale|bias)", {"lr": 1.0, "decay": 0.0}),
)
# LayerNorms, biases, the class token and positions are not pulled towards zero.
_DECAY_OF_KERNELS = ((r".*/kernel", {"lr": 1.0, "decay": 1.0}), (r".*", {"lr": 1.0, "decay": 0.0}))

METHODS: Mapping[str, Method] = {
    "svmix": Method(
        "SV-Mix: clips mixed where a learned module selects, a teacher is evaluated",
        Settings(
            every={
                "train.method": "svmix",
                "train.label_smoothing": 0.1,
                "data.sampling": "shared",
            },
            without_recipe={"optim.groups": _SVMIX_GROUPS},
            transformers={**_ADAMW, "optim.groups": _DECAY_OF_KERNELS},
        ),
    ),
    "modern": Method(
        "cosine and RandAugment; vision transformers: AdamW, mixup and CutMix too",
        Settings(
            every={"data.randaugment": 2},
            # Both operations are carried out, as mmaction2 has them for TSM.
            convolutional={
                "data.randaugment_prob": 1.0,
                "optim.schedule": "cosine",
                "optim.milestones": (),
            },
            transformers={
                **_ADAMW,
                "optim.groups": _DECAY_OF_KERNELS,
                "optim.layer_decay": 0.75,
                "train.label_smoothing": 0.1,
                "train.mixup": 0.8,
                "train.cutmix": 1.0,
            },
        ),
    ),
}

# What SV-Mix's authors set for a data set. The clips of Something-Something are not mirrored.
SVMIX_SOMETHING = Settings(
    every={"data.flip": 0.0},
    without_recipe={"optim.milestones": (25, 50), "train.epochs": 55},
)
# Diving48 and EGTEA: 64 clips a step as two halves, at the learning rate of 32.
SVMIX_SMALL = Settings(
    every={"svmix.lr": 0.04},
    without_recipe={
        "optim.lr_batch_size": 64,
        "train.accumulate": 2,
        "train.batch_size": 64,
    },
)
SVMIX_UCF101 = Settings(
    convolutional={"svmix.lr": 0.01, "svmix.mode": "temporal"},
    without_recipe={**SVMIX_SMALL.without_recipe, "optim.lr": 0.02},
    transformers={"optim.lr": 2e-5, "svmix.lr": 0.02},
)
