"""Golden numbers of SV-Mix: two steps of the authors' trainer, and the module's weights."""

import numpy as np

from tests.golden import recipe
from tests.helpers.golden_steps import golden_of
from tests.helpers.paths import GOLDEN

CLIPS, LABELS = (3, 4, 64, 96), (3, 7, 1)
_FILE = GOLDEN / "svmix_steps.npz"
# Step → its numbers, and what it drew.
STEPS = {
    "1": (
        golden_of(_FILE, "3x4x64x96|1"),
        {"temporal": False, "share": 0.37, "module_share": 0.71}
        | {"partner": [2, 0, 1], "module_partner": [1, 2, 0]},
    ),
    "2": (
        golden_of(_FILE, "3x4x64x96|2"),
        {"temporal": True, "share": 0.55, "module_share": 0.97}
        | {"partner": [1, 0, 2], "module_partner": [2, 0, 1]},
    ),
}


def module_variables(prefix, channels, scale):
    """The golden weights of the selective module, float64, as its own parameters.

    Args:
        prefix: of the keys.
        channels: C.
        scale: of both kernels, before the λ channel of the value is set to 4.
    """
    params = {}
    for layer, width in (("query", channels // 2), ("value", 1)):
        kernel = recipe.tensor(f"{prefix}.{layer}.weight", (width, channels + 1)) * np.float32(
            scale
        )
        if layer == "value":
            kernel[0, channels] = 4
        bias = recipe.tensor(f"{prefix}.{layer}.bias", (width,))
        params[layer] = {"kernel": kernel.T.astype("f8"), "bias": bias.astype("f8")}
    return params
