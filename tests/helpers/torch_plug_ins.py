"""The modules that Table I of the AIA paper compares with, in PyTorch: what ours are tested with.

Written to be obviously right, not fast. A feature is [B, T, C, H, W], as in `torch_nets`. The keys
are those of `aia_jax.models.resnet.torch_attention`: no code of these versions is public.
"""

import torch
from torch import nn
from torch.nn import functional


class SE3D(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, max(1, channels // 16), bias=False)
        self.fc2 = nn.Linear(max(1, channels // 16), channels, bias=False)

    def gates(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((1, 3, 4))))))
        return {"channel": gate[:, None, :, None, None]}


class GE3DG(nn.Module):
    def __init__(self, channels: int):
        super().__init__()

    def gates(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"channel": torch.sigmoid(x.mean((1, 3, 4), keepdim=True))}


class S3DG(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def gates(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"channel": torch.sigmoid(self.fc(x.mean((1, 3, 4))))[:, None, :, None, None]}


class GE3DDW(nn.Module):
    def __init__(self, channels: int, frames: int):
        super().__init__()
        for n in (1, 2, 3):
            conv = nn.Conv3d(
                channels,
                channels,
                (frames, 3, 3),
                stride=(1, 2, 2),
                padding=(frames // 2, 1, 1),
                groups=channels,
                bias=False,
            )
            self.add_module(f"conv{n}", conv)
            self.add_module(f"bn{n}", nn.BatchNorm3d(channels))

    def gates(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.transpose(1, 2)
        gathered = self.bn3(self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(x))))))
        gate = torch.sigmoid(functional.interpolate(gathered, x.shape[2:], mode="nearest"))
        return {"local": gate.transpose(1, 2)}


class _ChannelGate(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, max(1, channels // 16))
        self.fc2 = nn.Linear(max(1, channels // 16), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pools = x.mean((1, 3, 4)), x.amax((1, 3, 4))
        excited = sum(self.fc2(torch.relu(self.fc1(pool))) for pool in pools)
        return torch.sigmoid(excited)[:, None, :, None, None]


class _SpatialGate(nn.Module):
    def __init__(self, frames: int):
        super().__init__()
        self.conv = nn.Conv3d(2, 1, (frames, 7, 7), padding=(frames // 2, 3, 3), bias=False)
        self.bn = nn.BatchNorm3d(1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        pools = torch.stack([z.amax(2), z.mean(2)], 1)  # [B, 2, T, H, W]
        return torch.sigmoid(self.bn(self.conv(pools))).transpose(1, 2)


class CBAM3D(nn.Module):
    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.channel_gate, self.spatial_gate = _ChannelGate(channels), _SpatialGate(frames)

    def gates(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        channel = self.channel_gate(x)
        return {"channel": channel, "spatial": self.spatial_gate(x * channel)}


# name → what makes it from a number of channels
PLUG_INS = {
    "SE3D": SE3D,
    "GE3D-G": GE3DG,
    "GE3D-DW133": lambda channels: GE3DDW(channels, 1),
    "GE3D-DW333": lambda channels: GE3DDW(channels, 3),
    "S3D-G": S3DG,
    "CBAM3D177": lambda channels: CBAM3D(channels, 1),
    "CBAM3D377": lambda channels: CBAM3D(channels, 3),
}


class PlugIn(nn.Module):
    """One of `PLUG_INS`, with its keys under its name: `eft.SE3D.fc1.weight`."""

    def __init__(self, name: str, channels: int):
        super().__init__()
        self.add_module(name.replace("-", "_"), PLUG_INS[name](channels))

    @property
    def module(self) -> nn.Module:
        (module,) = self.children()
        return module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for gate in self.module.gates(x).values():
            x = x * gate
        return x
