"""The shifts by which a ViT's frames meet: which there are, and how much each moves."""

from collections.abc import Mapping

from aia_jax.models.fields import FieldError, require

_TOKEN_SHARE = 4  # TokShift moves a quarter of the class token's channels each way
_LISTED = 8  # alternatives that an error names

# The field's value → the network's name. MSCA's are the projections whose heads move.
SHIFTS: Mapping[str, str] = {"none": "", "token": "TokShift"} | {
    letters: f"MSCA-{letters}" for letters in ("Q", "K", "V", "QK", "QV", "KV", "QKV")
}


def projections(shift: str) -> str:
    """The letters of the projections whose heads move: "KV"; "" where none does."""
    return "" if shift in ("none", "token") else shift


def default_share(shift: str, heads: int) -> int:
    """The papers' `shift_div`: 4 for "token"; for MSCA one head of all moves each way."""
    return _TOKEN_SHARE if shift == "token" else heads


def check_shift(shift: str, share: int, heads: int, width: int) -> None:
    """Checks that 1/share of the heads, or of the class token's channels, can move each way.

    Raises:
        FieldError: names what is to be divided and the numbers that divide it.
    """
    require(shift in SHIFTS, "shift", shift, " or ".join(SHIFTS))
    if shift == "none":
        return
    count, parts = (width, "channels") if shift == "token" else (heads, "heads")
    fitting = [number for number in range(2, count + 1) if count % number == 0]
    if share not in fitting:
        remedy = " or ".join(map(str, fitting[:_LISTED])) or f"more {parts}"
        raise FieldError(
            "shift_div",
            f"shift={shift!r} cannot move 1/{share} of {count} {parts} each way; use {remedy}",
        )
