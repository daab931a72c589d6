"""GST and C3D as plain PyTorch networks of 3-D convolutions, to compare with.

Inside, clips are [B, C, T, H, W]. GST's names are those of its authors, C3D's torchvision's.
"""

import torch
from torch import nn


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, stride, conv2, tconv, beta):
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(**conv2, stride=(1, stride, stride), bias=False)
        if tconv:
            self.Tconv = nn.Conv3d(
                planes // beta, tconv, 3, (1, stride, stride), padding=1, bias=False
            )
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * planes)
        if stride != 1 or inputs != 4 * planes:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, 4 * planes, 1, (1, stride, stride), bias=False),
                nn.BatchNorm3d(4 * planes),
            )
        self.seen = planes // beta

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        x = torch.relu(self.bn1(self.conv1(x)))
        if hasattr(self, "Tconv"):
            x = torch.cat([self.conv2(x[:, : self.seen]), self.Tconv(x[:, -self.seen :])], 1)
        else:
            x = self.conv2(x)
        x = torch.relu(self.bn2(x))
        return torch.relu(self.bn3(self.conv3(x)) + shortcut)


class ClipNet(nn.Module):
    """A GST where `alpha` is given, else a C3D; with a 3x3 stem of stride 1."""

    def __init__(self, num_classes, width, stage_sizes, alpha=0, beta=1):
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        inputs, self.stages = width, len(stage_sizes)
        for stage, blocks in enumerate(stage_sizes):
            planes = width * 2**stage
            tconv = planes // alpha if alpha else 0
            size, padding = ((1, 3, 3), (0, 1, 1)) if alpha else (3, 1)
            conv2 = {
                "in_channels": planes // beta,
                "out_channels": planes - tconv,
                "kernel_size": size,
                "padding": padding,
            }
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layer.append(Bottleneck(inputs, planes, stride, conv2, tconv, beta))
                inputs = 4 * planes
            self.add_module(f"layer{stage + 1}", layer)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, clips):
        """Logits of clips [B, T, H, W, 3]."""
        x = torch.relu(self.bn1(self.conv1(clips.permute(0, 4, 1, 2, 3))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((3, 4)).transpose(1, 2)).mean(1)
