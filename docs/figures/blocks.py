"""What the block diagrams of docs/models.md show: a dictionary of boxes and arrows for each."""

import itertools

from docs.figures.diagram import Arrow, Box, diagram

_LEGEND = "Blue: with parameters. Grey: without. Orange: sum or product of two inputs."


def _chain(*keys: str) -> list[Arrow]:
    """Straight arrows from each key to the next."""
    return [Arrow(start, end) for start, end in itertools.pairwise(keys)]


def resnet() -> str:
    boxes = {
        "x": Box(0, 0, "x\nB·T×H×W×4w", "data"),
        "shift": Box(1, 0, "temporal\nshift", "free"),
        "conv1": Box(2, 0, "conv1 1×1\nBN, ReLU"),
        "a1": Box(3, 1, "after_conv1", "free"),
        "conv2": Box(4, 0, "conv2 3×3\nBN"),
        "a2": Box(5, 1, "after_conv2", "free"),
        "relu": Box(6, 0, "ReLU", "free"),
        "conv3": Box(7, 0, "conv3 1×1\nBN"),
        "a3": Box(8, 1, "after_conv3", "free"),
        "sum": Box(9, 0, "+", "gate"),
        "y": Box(10, 0, "ReLU", "free"),
    }
    arrows = [
        *_chain("x", "shift", "conv1", "conv2", "relu", "conv3", "sum", "y"),
        Arrow("x", "sum", "around", 0.62),
        *(Arrow(a, b, route, dashed=True) for a, b, route in (
            ("conv1", "a1", "down"), ("a1", "conv2", "across"),
            ("conv2", "a2", "down"), ("a2", "relu", "across"),
            ("conv3", "a3", "down"), ("a3", "sum", "across"),
        )),
    ]  # fmt: skip
    return diagram(
        "The bottleneck of a ResNet with the temporal shift and the three sites of attention",
        boxes,
        arrows,
        (
            "TSN has no shift. An attention module replaces the arrow above it at its site.",
            "The shortcut has a 1×1 convolution and BN where the shape changes. " + _LEGEND,
        ),
    )


def aia() -> str:
    boxes = {
        "x": Box(0, 1, "x\nB×T×H×W×C", "data"),
        "pool1": Box(1, 0, "average and max\nover C", "free"),
        "guide": Box(2, 0, "3×3×3, BN\nsigmoid"),
        "in": Box(3, 0, "×", "gate"),
        "pool2": Box(4, 0, "average and max\nover T (H, W)", "free"),
        "host": Box(5, 0, "3×3×3, BN\nsigmoid"),
        "out": Box(6, 1, "×", "gate"),
        "y": Box(7, 1, "y", "data"),
    }
    arrows = [
        Arrow("x", "pool1", "down"),
        *_chain("pool1", "guide", "in", "pool2", "host"),
        Arrow("x", "in", "across"),
        Arrow("host", "out", "across"),
        *_chain("x", "out", "y"),
    ]
    return diagram(
        "One attention unit inside another: CinST",
        boxes,
        arrows,
        (
            "CinST: the C gate refines what the units T, H and W pool; their gates multiply x.",
            "STinC: the T, H and W gates refine what the C unit pools. " + _LEGEND,
        ),
    )


def se3d() -> str:
    boxes = {
        "x": Box(0, 1, "x\nafter conv3", "data"),
        "pool": Box(1, 0, "mean over\nT, H, W", "free"),
        "fc1": Box(2, 0, "linear\nC → C/16"),
        "relu": Box(3, 0, "ReLU", "free"),
        "fc2": Box(4, 0, "linear\nC/16 → C"),
        "sigmoid": Box(5, 0, "sigmoid", "free"),
        "out": Box(6, 1, "×", "gate"),
        "y": Box(7, 1, "y", "data"),
    }
    arrows = [
        Arrow("x", "pool", "down"),
        *_chain("pool", "fc1", "relu", "fc2", "sigmoid"),
        Arrow("sigmoid", "out", "across"),
        *_chain("x", "out", "y"),
    ]
    return diagram("SE3D: squeeze and excitation over space and time", boxes, arrows, (_LEGEND,))


def s3dg() -> str:
    boxes = {
        "x": Box(0, 1, "x\nafter conv2", "data"),
        "pool": Box(1, 0, "mean over\nT, H, W", "free"),
        "fc": Box(2, 0, "linear\nC → C, bias"),
        "sigmoid": Box(3, 0, "sigmoid", "free"),
        "out": Box(4, 1, "×", "gate"),
        "y": Box(5, 1, "y", "data"),
    }
    arrows = [
        Arrow("x", "pool", "down"),
        *_chain("pool", "fc", "sigmoid"),
        Arrow("sigmoid", "out", "across"),
        *_chain("x", "out", "y"),
    ]
    return diagram("S3D-G: the self-gating of S3D-G", boxes, arrows, (_LEGEND,))


def ge3d() -> str:
    boxes = {
        "x": Box(0, 1, "x\nafter conv3", "data"),
        "pool": Box(1, 0, "GE3D-G: mean\nover T, H, W", "free"),
        "dw": Box(1, 2, "GE3D-DW: three depthwise\nconvolutions, stride (1, 2, 2), BN"),
        "resize": Box(2, 2, "resize to\nT×H×W", "free"),
        "sigmoid": Box(3, 0, "sigmoid", "free"),
        "sigmoid2": Box(3, 2, "sigmoid", "free"),
        "out": Box(4, 1, "×", "gate"),
        "y": Box(5, 1, "y", "data"),
    }
    arrows = [
        Arrow("x", "pool", "down"),
        Arrow("pool", "sigmoid"),
        Arrow("sigmoid", "out", "across"),
        Arrow("x", "dw", "down", dashed=True),
        Arrow("dw", "resize", dashed=True),
        Arrow("resize", "sigmoid2", dashed=True),
        Arrow("sigmoid2", "out", "across", dashed=True),
        *_chain("x", "out", "y"),
    ]
    return diagram(
        "GE3D: gather and excite, by a mean or by depthwise convolutions",
        boxes,
        arrows,
        (
            "DW133 has kernels of 1×3×3, DW333 of 3×3×3. A module has one of the two branches.",
            _LEGEND,
        ),
    )


def cbam3d() -> str:
    boxes = {
        "x": Box(0, 1, "x\nafter conv3", "data"),
        "pool": Box(1, 0, "average and max\nover T, H, W", "free"),
        "mlp": Box(2, 0, "shared MLP\nC → C/16 → C"),
        "sigmoid": Box(3, 0, "sum, sigmoid", "free"),
        "channel": Box(4, 1, "×", "gate"),
        "pool2": Box(5, 0, "max and mean\nover C", "free"),
        "conv": Box(6, 0, "1×7×7 (3×7×7)\n2 → 1, BN"),
        "sigmoid2": Box(7, 0, "sigmoid", "free"),
        "space": Box(8, 1, "×", "gate"),
        "y": Box(9, 1, "y", "data"),
    }
    arrows = [
        Arrow("x", "pool", "down"),
        *_chain("pool", "mlp", "sigmoid"),
        Arrow("sigmoid", "channel", "across"),
        *_chain("x", "channel", "space", "y"),
        Arrow("channel", "pool2", "down"),
        *_chain("pool2", "conv", "sigmoid2"),
        Arrow("sigmoid2", "space", "across"),
    ]
    return diagram(
        "CBAM3D: a gate of channels, then one of space and time", boxes, arrows, (_LEGEND,)
    )


def non_local() -> str:
    boxes = {
        "x": Box(0, 1, "x, after\nthe block", "data"),
        "theta": Box(1, 0, "θ: 1×1×1, C → C/2"),
        "phi": Box(1, 1, "φ: 1×1×1, max-pool (1,2,2)"),
        "g": Box(1, 2, "g: 1×1×1, max-pool (1,2,2)"),
        "soft": Box(2, 0, "softmax(θ φᵀ)\nTHW × THW/4", "free"),
        "product": Box(3, 1, "×", "gate"),
        "out": Box(4, 1, "1×1×1, C/2 → C\nBN, γ = 0 at the start"),
        "sum": Box(5, 1, "+", "gate"),
        "y": Box(6, 1, "y", "data"),
    }
    arrows = [
        Arrow("x", "theta", "down"),
        Arrow("x", "phi"),
        Arrow("x", "g", "down"),
        Arrow("theta", "soft"),
        Arrow("phi", "soft", "across"),
        Arrow("soft", "product", "across"),
        Arrow("g", "product", "across"),
        *_chain("product", "out", "sum", "y"),
        Arrow("x", "sum", "around", 1.6),
    ]
    return diagram("A non-local block over all positions of a clip", boxes, arrows, (_LEGEND,))


def gst() -> str:
    boxes = {
        "x": Box(0, 1, "x", "data"),
        "conv1": Box(1, 1, "conv1 1×1\nBN, ReLU"),
        "space": Box(2, 0, "conv2 1×3×3\nw/β → w·(α−1)/α"),
        "time": Box(2, 2, "temporal_conv2 3×3×3\nw/β → w/α"),
        "cat": Box(3, 1, "concatenate", "free"),
        "bn": Box(4, 1, "BN\nReLU"),
        "conv3": Box(5, 1, "conv3 1×1\nBN"),
        "sum": Box(6, 1, "+", "gate"),
        "y": Box(7, 1, "ReLU", "free"),
    }
    arrows = [
        *_chain("x", "conv1"),
        Arrow("conv1", "space", "down"),
        Arrow("conv1", "time", "down"),
        Arrow("space", "cat", "across"),
        Arrow("time", "cat", "across"),
        *_chain("cat", "bn", "conv3", "sum", "y"),
        Arrow("x", "sum", "around", 1.6),
    ]
    return diagram(
        "GST's bottleneck: a spatial and a temporal share of the channels",
        boxes,
        arrows,
        (
            "w: the block's width. With β = 2 the first half of the channels goes up, the second "
            "down; with β = 1 all go both ways.",
            _LEGEND,
        ),
    )


def c3d() -> str:
    boxes = {
        "x": Box(0, 0, "x", "data"),
        "conv1": Box(1, 0, "conv1 1×1×1\nBN, ReLU"),
        "conv2": Box(2, 0, "conv2 3×3×3\nBN, ReLU"),
        "conv3": Box(3, 0, "conv3 1×1×1\nBN"),
        "sum": Box(4, 0, "+", "gate"),
        "y": Box(5, 0, "ReLU", "free"),
    }
    arrows = [
        *_chain("x", "conv1", "conv2", "conv3", "sum", "y"),
        Arrow("x", "sum", "around", 0.62),
    ]
    return diagram("C3D: a bottleneck with a convolution over time", boxes, arrows, (_LEGEND,))


def h2cn_stem() -> str:
    boxes = {
        "x": Box(0, 1, "a segment's\n5 frames", "data"),
        "middle": Box(1, 0, "the middle\nframe", "free"),
        "conv": Box(5, 0, "7×7, stride 2, bias\nBN, ReLU, max-pool"),
        "pool": Box(1, 2, "2×2 mean\n5 frames", "free"),
        "f1": Box(2, 2, "fhgc, BN, ReLU\n5 → 3 frames"),
        "f2": Box(3, 2, "fhgc, BN, ReLU\n3 → 1 frame,\n3 → 9 channels"),
        "conv9": Box(4, 2, "7×7, stride 2\nBN, ReLU, max-pool"),
        "resize": Box(5, 2, "resize", "free"),
        "sum": Box(6, 1, "+", "gate"),
        "y": Box(7, 1, "½ stem\n+ ½ motion", "data"),
    }
    arrows = [
        Arrow("x", "middle", "down"),
        Arrow("middle", "conv"),
        Arrow("x", "pool", "down"),
        *_chain("pool", "f1", "f2", "conv9", "resize"),
        Arrow("conv", "sum", "across"),
        Arrow("resize", "sum", "across"),
        Arrow("sum", "y"),
    ]
    return diagram(
        "H2CN's stem: the middle frame, and the motion of five frames",
        boxes,
        arrows,
        (
            "fhgc: a = depthwise 3×3, dilation 2; each inner frame becomes a depthwise sum of 3: "
            "a before it, itself, a after it.",
            _LEGEND,
        ),
    )


def h2cn_block() -> str:
    boxes = {
        "x": Box(0, 1, "after conv1\nBN, ReLU", "data"),
        "reduce": Box(1, 0, "1×1, C → C/16\nBN: b"),
        "dw": Box(2, 0, "depthwise 3×3\nof b: c"),
        "three": Box(3, 0, "depthwise 3 taps over\nc[t−1], b[t], c[t+1]"),
        "mean": Box(4, 0, "mean\nover H, W", "free"),
        "expand": Box(5, 0, "1×1, C/16 → C\nBN, sigmoid"),
        "out": Box(6, 1, "×", "gate"),
        "y": Box(7, 1, "to conv2", "data"),
    }
    arrows = [
        Arrow("x", "reduce", "down"),
        *_chain("reduce", "dw", "three", "mean", "expand"),
        Arrow("expand", "out", "across"),
        *_chain("x", "out", "y"),
    ]
    return diagram(
        "H2CN's gate in every bottleneck",
        boxes,
        arrows,
        ("t counts segments; the bottleneck also has TSM's shift. " + _LEGEND,),
    )


def vit() -> str:
    boxes = {
        "x": Box(0, 0, "class token,\npatch tokens", "data"),
        "token1": Box(1, 0, "TokShift", "free"),
        "norm1": Box(2, 0, "LayerNorm"),
        "qkv": Box(3, 0, "query, key,\nvalue"),
        "heads": Box(4, 0, "MSCA", "free"),
        "attention": Box(5, 0, "softmax(q kᵀ/√d) v", "free"),
        "out": Box(6, 0, "out"),
        "sum1": Box(7, 0, "+", "gate"),
        "token2": Box(8, 0, "TokShift", "free"),
        "norm2": Box(9, 0, "LayerNorm"),
        "mlp": Box(10, 0, "MLP\nGELU"),
        "sum2": Box(11, 0, "+", "gate"),
    }
    arrows = [
        *_chain(*boxes),
        Arrow("token1", "sum1", "around", 0.62),
        Arrow("token2", "sum2", "around", 0.62),
    ]
    return diagram(
        "A layer of the vision transformer with the places of both shifts",
        boxes,
        arrows,
        (
            "ViT has neither shift. TokShift shifts what enters both branches, the residual too.",
            "MSCA shifts heads of the query, key or value. " + _LEGEND,
        ),
    )


_DRAWN = (
    resnet, aia, se3d, s3dg, ge3d, cbam3d, non_local, gst, c3d, h2cn_stem, h2cn_block, vit,
)  # fmt: skip
BLOCKS = {draw.__name__: draw for draw in _DRAWN}
