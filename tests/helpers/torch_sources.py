"""Plain PyTorch networks with the state-dict names of mmaction2 and of Hugging Face.

Written from the libraries' configs and lists of keys; no number or layer comes from this project.
Clips are [B, T, H, W, 3]; inside, frames are [B·T, C, H, W].
"""

import torch
from torch import nn

# ---- mmaction2: TSN and TSM ----------------------------------------------------------------------


class ConvModule(nn.Module):
    """A convolution, with a BatchNorm `bn` and no bias or without and with one, and a ReLU."""

    def __init__(self, inputs, outputs, size, stride=1, dims=2, norm=True, act=True):
        super().__init__()
        conv, bn = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv = conv(inputs, outputs, size, stride, size // 2, bias=not norm)
        if norm:
            self.bn = bn(outputs)
        self.act = nn.ReLU() if act else nn.Identity()

    def forward(self, x):
        x = self.conv(x)
        return self.act(self.bn(x) if hasattr(self, "bn") else x)


class TemporalShift(nn.Module):
    """Moves the first eighth of the channels one frame back in time, the second one on."""

    def __init__(self, net, num_segments, shift_div=8):
        super().__init__()
        self.net, self.num_segments, self.shift_div = net, num_segments, shift_div

    def forward(self, x):
        n, c, h, w = x.shape
        left, middle, right = x.reshape(-1, self.num_segments, c, h, w).split(
            [c // self.shift_div, c // self.shift_div, c - 2 * (c // self.shift_div)], 2
        )
        blank_left, blank_middle = torch.zeros_like(left[:, :1]), torch.zeros_like(middle[:, :1])
        left = torch.cat([left[:, 1:], blank_left], 1)
        middle = torch.cat([blank_middle, middle[:, :-1]], 1)
        return self.net(torch.cat([left, middle, right], 2).reshape(n, c, h, w))


class NonLocal3d(nn.Module):
    """mmcv's block, with sub_sample=True, use_scale=False, BN3d and mode="embedded_gaussian"."""

    def __init__(self, channels):
        super().__init__()
        inner = channels // 2

        def conv(inputs, outputs, norm=False):
            return ConvModule(inputs, outputs, 1, dims=3, norm=norm, act=False)

        pool = nn.MaxPool3d((1, 2, 2))
        self.g = nn.Sequential(conv(channels, inner), pool)
        self.conv_out = conv(inner, channels, norm=True)
        self.theta = conv(channels, inner)
        self.phi = nn.Sequential(conv(channels, inner), pool)

    def forward(self, x):  # [B, C, T, H, W]
        g, theta, phi = (layer(x).flatten(2) for layer in (self.g, self.theta, self.phi))
        weights = (theta.transpose(1, 2) @ phi).softmax(-1)
        y = (weights @ g.transpose(1, 2)).transpose(1, 2)
        return x + self.conv_out(y.reshape(len(x), -1, *x.shape[2:]))


class NL3DWrapper(nn.Module):
    def __init__(self, block, num_segments):
        super().__init__()
        self.block, self.num_segments = block, num_segments
        self.non_local_block = NonLocal3d(block.conv3.bn.num_features)

    def forward(self, x):
        x = self.block(x)
        clips = x.unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        return self.non_local_block(clips).transpose(1, 2).flatten(0, 1)


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = ConvModule(inputs, planes, 1)
        self.conv2 = ConvModule(planes, planes, 3, stride)
        self.conv3 = ConvModule(planes, 4 * planes, 1, act=False)
        if stride != 1 or inputs != 4 * planes:
            self.downsample = ConvModule(inputs, 4 * planes, 1, stride, act=False)

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return torch.relu(self.conv3(self.conv2(self.conv1(x))) + shortcut)


class Backbone(nn.Module):
    """ResNet, or ResNetTSM with shift_place="blockres" and the published config's `non_local`."""

    def __init__(self, width, stages, num_segments, shift, non_local):
        super().__init__()
        self.conv1 = ConvModule(3, width, 7, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, self.stages = width, len(stages)
        for stage, blocks in enumerate(stages):
            planes, layer = width * 2**stage, nn.Sequential()
            for block in range(blocks):
                layer.append(Bottleneck(inputs, planes, 2 if stage and not block else 1))
                inputs = 4 * planes
                if shift and block % (2 if stages[2] >= 23 else 1) == 0:
                    first = layer[-1].conv1
                    first.conv = TemporalShift(first.conv, num_segments)
                if non_local and block in {1: (0, 2), 2: (0, 2, 4)}.get(stage, ()):
                    layer[-1] = NL3DWrapper(layer[-1], num_segments)
            self.add_module(f"layer{stage + 1}", layer)
        self.channels = inputs

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x


class Head(nn.Module):
    """TSMHead averages the frames' scores, TSNHead classifies the mean of their features."""

    def __init__(self, channels, num_classes, num_segments, shift):
        super().__init__()
        self.fc_cls = nn.Linear(channels, num_classes)
        self.num_segments, self.shift = num_segments, shift

    def forward(self, x):
        x = x.mean((2, 3)).unflatten(0, (-1, self.num_segments))
        return self.fc_cls(x).mean(1) if self.shift else self.fc_cls(x.mean(1))


class Recognizer2D(nn.Module):
    """mmaction2's network: `backbone` and `cls_head`."""

    def __init__(
        self,
        num_classes,
        width=64,
        stages=(3, 4, 6, 3),
        num_segments=8,
        shift=False,
        non_local=False,
    ):
        super().__init__()
        self.backbone = Backbone(width, stages, num_segments, shift, non_local)
        self.cls_head = Head(self.backbone.channels, num_classes, num_segments, shift)

    def forward(self, clips):
        return self.cls_head(self.backbone(clips.flatten(0, 1).permute(0, 3, 1, 2)))


# ---- Hugging Face: ResNetForImageClassification --------------------------------------------------


class ConvLayer(nn.Module):
    def __init__(self, inputs, outputs, size=3, stride=1, act=True):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)
        self.activation = nn.ReLU() if act else nn.Identity()

    def forward(self, x):
        return self.activation(self.normalization(self.convolution(x)))


class BottleNeckLayer(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        inner = outputs // 4
        if inputs != outputs or stride != 1:
            self.shortcut = ConvLayer(inputs, outputs, 1, stride, act=False)
        self.layer = nn.Sequential(
            ConvLayer(inputs, inner, 1),
            ConvLayer(inner, inner, 3, stride),
            ConvLayer(inner, outputs, 1, act=False),
        )

    def forward(self, x):
        return torch.relu(self.layer(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x))


class ResNetForImageClassification(nn.Module):
    """Hugging Face's; here it classifies every frame, and the scores are averaged."""

    def __init__(self, num_classes, width=64, stages=(3, 4, 6, 3)):
        super().__init__()
        layers, inputs = nn.ModuleList(), width
        for stage, blocks in enumerate(stages):
            outputs, rows = 4 * width * 2**stage, nn.Sequential()
            for block in range(blocks):
                rows.append(BottleNeckLayer(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
            layers.append(nn.ModuleDict({"layers": rows}))
        embedder = nn.ModuleDict({"embedder": ConvLayer(3, width, 7, 2)})
        encoder = nn.ModuleDict({"stages": layers})
        self.resnet = nn.ModuleDict({"embedder": embedder, "encoder": encoder})
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(inputs, num_classes))

    def forward(self, clips):
        x = self.resnet["embedder"]["embedder"](clips.flatten(0, 1).permute(0, 3, 1, 2))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in self.resnet["encoder"]["stages"]:
            x = stage["layers"](x)
        scores = self.classifier(x.mean((2, 3), keepdim=True))
        return scores.unflatten(0, (-1, clips.shape[1])).mean(1)
