"""Says what a state dict is, by its keys and shapes: whose network, and of which size."""

import re
from collections.abc import Mapping

import numpy as np

from aia_jax.errors import UserError
from aia_jax.models import NETWORKS
from aia_jax.weights.names import WeightsError


def recognise(state_dict: Mapping[str, np.ndarray]) -> str:
    """Says in a line what a state dict is; asks the networks in the order of their table.

    Raises:
        WeightsError: no network knows the state dict, and it belongs to a relative of one, which
            does not load; says what is different and names a key that shows it.
    """
    families = [network.torch_names for network in NETWORKS.values()]
    if is_own(state_dict):
        sizes = filter(None, (names.describe_size(state_dict) for names in families))
        return ", ".join(["variables of this project", *sizes])
    refusal = None
    for names in families:
        try:
            if description := names.recognise(state_dict):
                return description
        except UserError as error:
            refusal = refusal or error
    if refusal is not None:
        raise WeightsError(str(refusal)) from refusal
    return "no network that is known here"


def is_own(state_dict: Mapping[str, np.ndarray]) -> bool:
    """Whether the keys are paths of variables, as in the folders of `convert_torch_weights.py`."""
    return bool(state_dict) and all(re.match(r"(params|batch_stats)/", key) for key in state_dict)
