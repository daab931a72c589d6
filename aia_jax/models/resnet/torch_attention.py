"""How the attention modules of a ResNet's blocks are called in PyTorch's checkpoints.

The AIA authors call an expression's only module `eft`, two of them `eft1` and `eft2`; the units of
axis attention are `eft.C_conv.weight`, `eft.C_bn.weight` and so on. They released no code of the
other modules of their Table I. Those have names of our own within the same `eft`, with `_` for `-`:

    SE3D         eft.SE3D.fc1.weight [C/16, C], .fc2.weight [C, C/16]
    S3D-G        eft.S3D_G.fc.weight [C, C], .fc.bias
    GE3D-DW133   eft.GE3D_DW133.conv{1,2,3}.weight [C, 1, 1, 3, 3], .bn{1,2,3}.*; so GE3D-DW333
    CBAM3D177    eft.CBAM3D177.channel_gate.fc{1,2}.{weight,bias},
                 .spatial_gate.conv.weight [1, 2, 1, 7, 7], .spatial_gate.bn.*; so CBAM3D377

GE3D-G has no arrays, so no checkpoint shows it.
"""

import itertools
import re
from collections.abc import Iterable

from aia_jax.models.attention.expression import module_calls
from aia_jax.models.resnet.modeling import PAPER_ATTENTIONS
from aia_jax.models.torch_keys import CONV3D, DENSE, VECTOR, Choice, Row, batch_norm_rows

_UNIT = (2, 3, 4, 1)  # [1, pools, d, h, w] → [d, h, w, pools]
_ONE_FRAME = (3, 4, 1, 0)  # [out, in, 1, h, w] → [h, w, in, out]

# The reference numbers the modules of an expression from left to right, with one exception. A sum
# does not depend on the order, so only the keys show it.
_NUMBERED_OTHERWISE = {"CinST+STinC": ("STinC", "CinST")}

# Letters of the units in an axis attention's keys → the modules that have these units.
_MODULES_BY_UNITS = {"C": ("C",), "HTW": ("ST",), "CHTW": ("CinST", "STinC")}


def attention_rows(expression: str, block: str, torch_block: str) -> list[Row]:
    """Rows of a key table for the variables of an expression's modules in every block.

    Args:
        expression: the network's `attention`.
        block, torch_block: the patterns of a block here, with two groups, and there.
    """
    rows: list[Row] = []
    modules = {call.name: call.module for call in module_calls(expression)}
    for name, eft in _reference_modules(expression).items():
        ours, torchs = f"{block}/attention/{re.escape(name)}", f"{torch_block}.{eft}"
        rows += [
            (f"params/{ours}/([CTHW])/conv/kernel", rf"{torchs}.\3_conv.weight", _UNIT),
            *batch_norm_rows(f"{ours}/([CTHW])/bn", rf"{torchs}.\3_bn"),
        ]
        # A module has some of these layers, or none.
        torchs = f"{torchs}.{_torch_name(modules[name])}"
        spatial_conv = CONV3D if modules[name] == "CBAM3D377" else _ONE_FRAME
        rows += [
            (rf"params/{ours}/(fc\d?)/kernel", rf"{torchs}.\3.weight", DENSE),
            (rf"params/{ours}/(fc\d?)/bias", rf"{torchs}.\3.bias", VECTOR),
            (rf"params/{ours}/(conv\d)/kernel", rf"{torchs}.\3.weight", CONV3D),
            *batch_norm_rows(rf"{ours}/(bn\d)", rf"{torchs}.\3"),
            (
                rf"params/{ours}/channel_gate/(fc\d)/kernel",
                rf"{torchs}.channel_gate.\3.weight",
                DENSE,
            ),
            (rf"params/{ours}/channel_gate/(fc\d)/bias", rf"{torchs}.channel_gate.\3.bias", VECTOR),
            (
                f"params/{ours}/spatial_gate/conv/kernel",
                f"{torchs}.spatial_gate.conv.weight",
                spatial_conv,
            ),
            *batch_norm_rows(f"{ours}/spatial_gate/bn", f"{torchs}.spatial_gate.bn"),
        ]
    return rows


def describe_attention(names: Iterable[str]) -> str:
    """Says what each attention module of a checkpoint is: "eft1 is C, eft2 is ST"; "" for none.

    Args:
        names: canonical keys.
    """
    return ", ".join(
        f"{eft} is {' or '.join(modules) or 'of no known kind'}"
        for eft, modules in _find_modules(names).items()
    )


def propose_attention(names: Iterable[str]) -> str | Choice:
    """The network's `attention` that a checkpoint shows, such as "C"; "none" for none.

    Args:
        names: canonical keys.
    """
    found = list(_find_modules(names).values())
    if len(found) < 2:
        expressions = list(*found) if found else ["none"]
    else:
        pairs = list(itertools.product(*found[:2]))
        expressions = [f"{a}{sign}{b}" for sign in ("->", "+") for a, b in pairs]
        paper = [expression for expression in expressions if expression in PAPER_ATTENTIONS]
        expressions = paper or expressions
    return expressions[0] if len(expressions) == 1 else Choice(tuple(expressions))


def _find_modules(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Name of an attention module in a checkpoint → what it may be; () for no known kind."""
    units: dict[str, set[str]] = {}  # name of an attention module → letters of its units
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        if match := re.search(r"\.(eft\d*)\.([CTHW])_", name):
            units.setdefault(match[1], set()).add(match[2])
        elif match := re.search(r"\.(eft\d*)\.(\w+)\.", name):
            found[match[1]] = (match[2].replace("_", "-"),)
    for eft, letters in units.items():
        found[eft] = _MODULES_BY_UNITS.get("".join(sorted(letters)), ())
    return dict(sorted(found.items()))


def _reference_modules(expression: str) -> dict[str, str]:
    """Attention module's name here → the reference's: `eft` if there is one, else eft1, eft2."""
    names = _NUMBERED_OTHERWISE.get(expression.replace(" ", ""))
    names = names or [call.name for call in module_calls(expression)]
    if len(names) == 1:
        return {names[0]: "eft"}
    return {name: f"eft{number}" for number, name in enumerate(names, 1)}


def _torch_name(module: str) -> str:
    """A module's name as an attribute in Python: "GE3D-DW133" → "GE3D_DW133"."""
    return module.replace("-", "_")
