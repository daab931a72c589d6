"""The public sources of ViT weights: their keys, and the authors' keys that mean the same array.

Of each source the table has the beginning of a key. `{}` stands for the number of a layer; what
ends in `.`, `_` or `/` is followed by `weight` or `bias` (Google: `kernel` or `scale`, `bias`).
The *canonical key* of an array is that in the state dict of MSCA's authors, whose networks, ViT,
TokShift and MSCA, all have the same keys.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

CLASS_TOKEN = "transformer.embeddings.cls_token"
POSITIONS = "transformer.embeddings.position_embeddings"
PATCHES = "transformer.embeddings.patch_embeddings."
LAYER = "transformer.encoder.layer.{}."
NORM1, NORM2 = f"{LAYER}attention_norm.", f"{LAYER}ffn_norm."
QUERY, KEY, VALUE = (f"{LAYER}attn.{name}." for name in ("query", "key", "value"))
FUSED = f"{LAYER}attn.qkv."  # no key of the authors: queries, keys and values in one array
OUT = f"{LAYER}attn.out."
FC1, FC2 = f"{LAYER}ffn.fc1.", f"{LAYER}ffn.fc2."
NORM = "transformer.encoder.encoder_norm."
HEAD = "head."


class Source(NamedTuple):
    """Where weights come from.

    Attributes:
        name: for people.
        keys: beginning of its keys → that of the canonical keys.
        is_video: whether its networks may be TokShift's or MSCA's, which no key shows.
        pixels: mean and deviation of the pixels that its networks take, if not the 0.5 and 0.5 of
            the networks here; for people.
        prefix: of all its keys but the head's, in a network with a head.
    """

    name: str
    keys: Mapping[str, str]
    is_video: bool = False
    pixels: str = ""
    prefix: str = ""


_CANONICAL = (
    *(CLASS_TOKEN, POSITIONS, PATCHES, NORM1, NORM2, QUERY, KEY, VALUE, OUT, FC1, FC2, NORM, HEAD),
)
AUTHORS = Source(
    "a ViT, TokShift or MSCA with the keys of MSCA's authors, or one that --to-torch wrote",
    {key: key for key in _CANONICAL},
    is_video=True,
)

_BLOCK = "Transformer/encoderblock_{}/"
_ATTENTION = f"{_BLOCK}MultiHeadDotProductAttention_1/"
GOOGLE = Source(
    "Google's ViT (.npz)",
    {
        "cls": CLASS_TOKEN,
        "Transformer/posembed_input/pos_embedding": POSITIONS,
        "embedding/": PATCHES,
        f"{_BLOCK}LayerNorm_0/": NORM1,
        f"{_BLOCK}LayerNorm_2/": NORM2,
        f"{_ATTENTION}query/": QUERY,
        f"{_ATTENTION}key/": KEY,
        f"{_ATTENTION}value/": VALUE,
        f"{_ATTENTION}out/": OUT,
        f"{_BLOCK}MlpBlock_3/Dense_0/": FC1,
        f"{_BLOCK}MlpBlock_3/Dense_1/": FC2,
        "Transformer/encoder_norm/": NORM,
        "head/": HEAD,
    },
)

_TV_BLOCK = "encoder.layers.encoder_layer_{}."
TORCHVISION = Source(
    "torchvision's ViT",
    {
        "class_token": CLASS_TOKEN,
        "encoder.pos_embedding": POSITIONS,
        "conv_proj.": PATCHES,
        f"{_TV_BLOCK}ln_1.": NORM1,
        f"{_TV_BLOCK}ln_2.": NORM2,
        f"{_TV_BLOCK}self_attention.in_proj_": FUSED,
        f"{_TV_BLOCK}self_attention.out_proj.": OUT,
        f"{_TV_BLOCK}mlp.0.": FC1,
        f"{_TV_BLOCK}mlp.3.": FC2,
        f"{_TV_BLOCK}mlp.linear_1.": FC1,  # in the files of torchvision before 0.13
        f"{_TV_BLOCK}mlp.linear_2.": FC2,
        "encoder.ln.": NORM,
        "heads.head.": HEAD,
    },
    pixels="mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225",
)

_TIMM_BLOCK = "blocks.{}."
TIMM = Source(
    "timm's ViT",
    {
        "cls_token": CLASS_TOKEN,
        "pos_embed": POSITIONS,
        "patch_embed.proj.": PATCHES,
        f"{_TIMM_BLOCK}norm1.": NORM1,
        f"{_TIMM_BLOCK}norm2.": NORM2,
        f"{_TIMM_BLOCK}attn.qkv.": FUSED,
        f"{_TIMM_BLOCK}attn.proj.": OUT,
        f"{_TIMM_BLOCK}mlp.fc1.": FC1,
        f"{_TIMM_BLOCK}mlp.fc2.": FC2,
        "norm.": NORM,
        "head.": HEAD,
    },
)

_HF_OLD, _HF_NEW = "encoder.layer.{}.", "layers.{}."  # files of before and since transformers 5
HUGGING_FACE = Source(
    "Hugging Face's ViT",
    {
        "embeddings.cls_token": CLASS_TOKEN,
        "embeddings.position_embeddings": POSITIONS,
        "embeddings.patch_embeddings.projection.": PATCHES,
        f"{_HF_OLD}layernorm_before.": NORM1,
        f"{_HF_OLD}layernorm_after.": NORM2,
        f"{_HF_OLD}attention.attention.query.": QUERY,
        f"{_HF_OLD}attention.attention.key.": KEY,
        f"{_HF_OLD}attention.attention.value.": VALUE,
        f"{_HF_OLD}attention.output.dense.": OUT,
        f"{_HF_OLD}intermediate.dense.": FC1,
        f"{_HF_OLD}output.dense.": FC2,
        f"{_HF_NEW}layernorm_before.": NORM1,
        f"{_HF_NEW}layernorm_after.": NORM2,
        f"{_HF_NEW}attention.q_proj.": QUERY,
        f"{_HF_NEW}attention.k_proj.": KEY,
        f"{_HF_NEW}attention.v_proj.": VALUE,
        f"{_HF_NEW}attention.o_proj.": OUT,
        f"{_HF_NEW}mlp.fc1.": FC1,
        f"{_HF_NEW}mlp.fc2.": FC2,
        "layernorm.": NORM,
        "classifier.": HEAD,
    },
    prefix="vit.",
)

SOURCES = (AUTHORS, GOOGLE, TORCHVISION, TIMM, HUGGING_FACE)

# Arrays that no network here has: Google's extra layer before the head of its 21,843 classes, the
# token that pre-training puts in place of patches, and a layer that Hugging Face adds to features.
PRE_LOGITS = "pre_logits."
_PRE_LOGITS = re.compile(r"(heads\.)?pre_logits[./].*")
_UNUSED = re.compile(r"pooler\..*|(embeddings\.)?mask_token")

_LEAVES = {"kernel": "weight", "scale": "weight", "weight": "weight", "bias": "bias"}


def short_key(key: str) -> str:
    """A key without the names of the modules that hold a whole ViT."""
    return re.sub(r"^((module|model)\.)*(vit\.)?", "", key)


def _pattern(begin: str) -> str:
    """A regular expression for the keys that begin as a row of a source's table says."""
    leaf = rf"({'|'.join(_LEAVES)})" if begin[-1] in "._/" else "()"
    return re.escape(begin).replace(r"\{\}", r"(\d+)") + leaf


_PATTERNS = [
    (re.compile(_pattern(begin)), source, canonical)
    for source in SOURCES
    for begin, canonical in source.keys.items()
]


def canonical_key(key: str) -> str:
    """A key of any source as MSCA's authors have it; the key itself where no source has it."""
    short = short_key(key)
    for pattern, _, canonical in _PATTERNS:
        if match := pattern.fullmatch(short):
            return canonical.format(match[1]) + _LEAVES.get(match[match.lastindex or 0], "")
    return short


def key_of_source(key: str, source: Source) -> str:
    """The opposite of `canonical_key`: a source's name of an array, the first of its table.

    Raises:
        KeyError: the source has no such array.
    """
    for begin, canonical in source.keys.items():
        if match := re.fullmatch(_pattern(canonical), key):
            prefix = "" if canonical == HEAD else source.prefix
            leaf = match[match.lastindex or 0] if canonical[-1] == "." else ""
            return prefix + begin.format(match[1]) + leaf
    raise KeyError(f"{source.name} has no name for {key}")


def find_source(keys: Iterable[str]) -> Source | None:
    """The source that most keys belong to; None where no key is of a layer of any."""
    names = [
        source.name
        for short in map(short_key, keys)
        for pattern, source, canonical in _PATTERNS
        if canonical.startswith(LAYER) and pattern.fullmatch(short)
    ]
    if not names:
        return None
    return max(SOURCES, key=lambda source: names.count(source.name))


def find_pre_logits(keys: Iterable[str]) -> str | None:
    """A key of the extra layer that some heads stand on; None where there is none."""
    return next((key for key in keys if _PRE_LOGITS.fullmatch(short_key(key))), None)


def is_unused(key: str) -> bool:
    """Whether a canonical key is of an array that no network here has and that nothing needs."""
    return bool(_PRE_LOGITS.fullmatch(key) or _UNUSED.fullmatch(key))
