"""Plain PyTorch networks with the reference's state-dict names: what the JAX model is compared
with, in speed and by the tests.

Written to be obviously right, not fast: every gate is a real `nn.Conv3d`, every axis is moved by
`permute`. Clips are `[B, T, H, W, 3]` as everywhere in this project; inside, frames are `[B·T, C,
H, W]` and attention sees `[B, T, C, H, W]`.
"""

import torch
from torch import nn

from tests.helpers.torch_plug_ins import PLUG_INS, PlugIn

TEMPORAL = ("tsn", "tsm")
EXPRESSIONS = (
    "none",
    "C",
    "ST",
    "C->ST",
    "ST->C",
    "C+ST",
    "CinST",
    "STinC",
    "CinST->STinC",
    "STinC->CinST",
    "CinST+STinC",
)

# For each unit: the order of (B, T, C, H, W) that puts the pooled axis second, where Conv3d wants
# its two channels.
_POOLED_SECOND = {
    "C": (0, 2, 1, 3, 4),  # convolves (T, H, W)
    "T": (0, 1, 2, 3, 4),  # convolves (C, H, W)
    "H": (0, 3, 1, 2, 4),  # convolves (T, C, W)
    "W": (0, 4, 1, 3, 2),  # convolves (T, H, C)
}


class Attention(nn.Module):
    """One attention module: C, ST, CinST or STinC."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        for unit in {"C": "C", "ST": "THW"}.get(kind, "CTHW"):
            self.add_module(f"{unit}_conv", nn.Conv3d(2, 1, 3, padding=1, bias=False))
            self.add_module(f"{unit}_bn", nn.BatchNorm3d(1))

    def gate(self, unit: str, x: torch.Tensor) -> torch.Tensor:
        order = _POOLED_SECOND[unit]
        x = x.permute(order)
        pooled = torch.stack([x.amax(1), x.mean(1)], dim=1)
        y = torch.sigmoid(getattr(self, f"{unit}_bn")(getattr(self, f"{unit}_conv")(pooled)))
        return y.permute([order.index(axis) for axis in range(5)])  # the inverse permutation

    def st_gate(self, x: torch.Tensor) -> torch.Tensor:
        return (self.gate("T", x) + self.gate("H", x) + self.gate("W", x)) / 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        match self.kind:
            case "C":
                return x * self.gate("C", x)
            case "ST":
                return x * self.st_gate(x)
            case "CinST":
                return x * self.st_gate(x * self.gate("C", x))
            case "STinC":
                return x * self.gate("C", x * self.st_gate(x))
        raise ValueError(self.kind)


def make_attention(kind: str, channels: int) -> nn.Module:
    """One attention module of a feature with so many channels; axis attention takes any number."""
    return PlugIn(kind, channels) if kind in PLUG_INS else Attention(kind)


class Expression(nn.Module):
    """Up to two attention modules, combined and named as the reference does it."""

    def __init__(self, expression: str, channels: int = 0):
        super().__init__()
        self.expression = expression
        if "->" in expression:
            first, second = expression.split("->")
        elif "+" in expression:
            first, second = expression.split("+")
            if expression == "CinST+STinC":
                first, second = second, first  # the reference's order here; the sum does not care
        else:
            self.eft = make_attention(expression, channels)
            return
        self.eft1, self.eft2 = make_attention(first, channels), make_attention(second, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "->" in self.expression:
            return self.eft2(self.eft1(x))
        if "+" in self.expression:
            return 0.5 * self.eft1(x) + 0.5 * self.eft2(x)
        return self.eft(x)


def temporal_shift(x: torch.Tensor, fold_div: int) -> torch.Tensor:
    """`[B, T, C, H, W]`: the first fold of channels takes t + 1, the second t − 1."""
    fold = x.shape[2] // fold_div
    out = torch.zeros_like(x)
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out


class Bottleneck(nn.Module):
    """torchvision's bottleneck with the shift before conv1 and the attention after bn2.

    The plug-ins of Table I act after bn3, except S3D-G.
    """

    def __init__(
        self, inputs: int, planes: int, stride: int, shift: bool, attention: str, fold_div: int
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.after_bn3 = any(f"{name}3D" in attention for name in ("SE", "GE", "CBAM"))
        if attention != "none":
            expression = Expression(attention, (4 if self.after_bn3 else 1) * planes)
            self.attention = [
                expression
                # in a list: its modules are registered on the block itself, as the reference names
                # them
            ]
            for name, module in expression.named_children():
                self.add_module(name, module)
        if stride != 1 or inputs != 4 * planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )
        self.shift, self.fold_div = shift, fold_div

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        if self.shift:
            x = temporal_shift(x.unflatten(0, (-1, num_frames)), self.fold_div).flatten(0, 1)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if hasattr(self, "attention") and not self.after_bn3:
            x = self.attention[0](x.unflatten(0, (-1, num_frames))).flatten(0, 1)
        x = self.bn3(self.conv3(torch.relu(x)))
        if hasattr(self, "attention") and self.after_bn3:
            x = self.attention[0](x.unflatten(0, (-1, num_frames))).flatten(0, 1)
        return torch.relu(x + shortcut)


class ResNet(nn.Module):
    def __init__(
        self, stage_sizes, temporal: str, attention: str, width: int, stem: str, fold_div: int
    ):
        super().__init__()
        small = stem == "small"
        self.conv1 = nn.Conv2d(
            3, width, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, blocks in enumerate(stage_sizes):
            layer = nn.ModuleList()
            for i in range(blocks):
                # The reference spares every second block of a long stage.
                carries = blocks < 23 or i % 2 == 0
                layer.append(
                    Bottleneck(
                        inputs,
                        width * 2**stage,
                        stride=2 if stage > 0 and i == 0 else 1,
                        shift=carries and temporal == "tsm",
                        attention=attention if carries else "none",
                        fold_div=fold_div,
                    )
                )
                inputs = 4 * width * 2**stage
            self.add_module(f"layer{stage + 1}", layer)
        self.num_stages, self.num_features = len(stage_sizes), inputs

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(self.num_stages):
            for block in getattr(self, f"layer{stage + 1}"):
                x = block(x, num_frames)
        return x.mean((2, 3))


class VideoNet(nn.Module):
    """The whole net of `aia_jax.create_model`, with its arguments' names."""

    def __init__(
        self,
        num_classes,
        *,
        depth=50,
        temporal="tsn",
        attention="none",
        dropout=0.5,
        stem="imagenet",
        width=64,
        stage_sizes=None,
        fold_div=8,
    ):
        super().__init__()
        stage_sizes = stage_sizes or {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
        self.base_model = ResNet(stage_sizes, temporal, attention, width, stem, fold_div)
        self.drop = nn.Dropout(dropout)
        head = nn.Linear(self.base_model.num_features, num_classes)
        if dropout > 0:
            self.new_fc = head
        else:
            self.base_model.fc = head

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        num_frames = clips.shape[1]
        x = self.base_model(clips.flatten(0, 1).permute(0, 3, 1, 2), num_frames)
        head = self.new_fc if hasattr(self, "new_fc") else self.base_model.fc
        return head(self.drop(x)).unflatten(0, (-1, num_frames)).mean(1)


class ShiftedConv(nn.Module):
    """A convolution behind the temporal shift, with the keys of TSM's released code."""

    def __init__(self, net: nn.Module, num_frames: int, fold_div: int):
        super().__init__()
        self.net, self.num_frames, self.fold_div = net, num_frames, fold_div

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clips = x.unflatten(0, (-1, self.num_frames))
        return self.net(temporal_shift(clips, self.fold_div).flatten(0, 1))


def shift_as_released(net: VideoNet, num_frames: int, fold_div: int) -> VideoNet:
    """Makes a TSN the TSM of the released code: `shift_place=blockres`, and every other block of
    all stages where the third one has 23 blocks or more.
    """
    stages = [getattr(net.base_model, f"layer{n + 1}") for n in range(net.base_model.num_stages)]
    every = 2 if len(stages) > 2 and len(stages[2]) >= 23 else 1
    for blocks in stages:
        for block in list(blocks)[::every]:
            block.conv1 = ShiftedConv(block.conv1, num_frames, fold_div)
    return net


def key_shapes(num_classes: int, **arguments) -> dict[str, tuple[int, ...]]:
    """Key → shape of the state dict of `VideoNet(num_classes, **arguments)`, without making its
    numbers.
    """
    with torch.device("meta"):
        net = VideoNet(num_classes, **arguments)
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Fills every parameter and running statistic, in float64, so that no BN is the identity and no
    gate is flat.
    """
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for key, value in module.state_dict().items():
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "running_var" or (leaf == "weight" and value.ndim == 1):
            value.uniform_(0.5, 1.5, generator=generator)
        elif leaf in ("running_mean", "bias"):
            value.normal_(0, 0.1, generator=generator)
        elif leaf == "weight":
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    return module
