"""Networks that are like a ViT and do not load as one, and the keys that show which they are."""

import re
from collections.abc import Mapping

import numpy as np

from aia_jax.models.vit.torch_sources import CLASS_TOKEN, LAYER, PATCHES, canonical_key, short_key

# Patterns of keys without prefixes, and what such a key shows about its network. The first pattern
# that a key matches counts.
_RELATIVES = (
    (
        r"(conv_root|gn_root|block\d+/unit\d+)/.*|.*patch_embed\.backbone\..*|.*hybrid_model\..*|"
        r".*patch_embeddings\.backbone\..*",
        "makes its patches with a ResNet (hybrid R+ViT)",
    ),
    (r"dist_token|head_dist\..*|.*distillation_.*", "has a distillation token (DeiT)"),
    (r".*reg_token|.*register_tokens", "has register tokens"),
    (r"(visual|vision_model)\..*|.*resblocks\..*|norm_pre\..*", "is CLIP's image encoder"),
    (r".*relative_position.*|.*rel_pos.*", "has positions relative to one another (Swin, BEiT)"),
    (
        r".*\b(temporal_(attn|attention|norm\d?|fc)|time_embed|temporal_embed)\b.*",
        "has attention over time of its own (TimeSformer)",
    ),
    (
        r".*\.(q_norm|k_norm|norm_q|norm_k|q_layernorm|k_layernorm)\..*",
        "normalises queries and keys",
    ),
    (r".*(\.ls\d\.|layer_scale|\.gamma_\d|\.lambda_?1).*", "scales its branches (LayerScale)"),
    (r".*\.mlp\.(w12|w3|fc1_[gx]|gate_proj)\..*", "has gated MLPs (SwiGLU)"),
    (r".*\.[qv]_bias", "has no biases of keys (BEiT, EVA, VideoMAE)"),
    (r"attn_pool\..*|MAPHead_\d/.*|.*attention_pool.*", "pools its tokens by attention"),
    (r"fc_norm\..*", "averages its patches instead of taking the class token"),
)


def find_relative(arrays: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """A key that shows a difference from a ViT, and the difference in words.

    Args:
        arrays: a state dict, by the keys of any source.

    Returns:
        None for a ViT, and for what has no attention by its keys.
    """
    if not any(re.search("attn|attention", key, re.IGNORECASE) for key in arrays):
        return None
    for pattern, description in _RELATIVES:
        if key := next((key for key in arrays if re.fullmatch(pattern, short_key(key))), None):
            return key, description
    names = {canonical_key(key): key for key in arrays}
    layer = next((names[name] for name in names if name.startswith(LAYER.format(0))), None)
    kernel = names.get(f"{PATCHES}weight")
    if kernel is not None and np.ndim(arrays[kernel]) == 5:
        return kernel, "has patches of several frames (tubelets)"
    if layer is not None and CLASS_TOKEN not in names:
        return kernel or layer, "has no class token"
    if layer is not None and kernel is None:
        return layer, "has no patch embedding of a single convolution"
    return None
