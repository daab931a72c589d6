"""Says what a state dict is, by its keys and shapes: whose network, and of which size."""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError, shorten
from aia_jax.models import NETWORKS, name_of, network_of
from aia_jax.weights.names import WeightsError

UNKNOWN = "no network that is known here"


def recognise(state_dict: Mapping[str, np.ndarray], config_text: str | None = None) -> str:
    """Says in a line what a state dict is; asks the networks in the order of their table.

    Args:
        state_dict: key → array.
        config_text: the config of the program that trained it, as the file has it (`About`).

    Raises:
        WeightsError: no network knows the state dict, and it belongs to a relative of one, which
            does not load; says what is different and names a key that shows it.
    """
    if is_own(state_dict):
        families = [network.torch_names for network in NETWORKS.values()]
        sizes = filter(None, (names.describe_size(state_dict) for names in families))
        # Several networks have stages of the same names.
        return ", ".join(["variables of this project", *dict.fromkeys(sizes)])
    found = _find_network(state_dict, config_text)
    return found[1] if found else UNKNOWN


def propose_fields(
    state_dict: Mapping[str, np.ndarray], config_text: str | None = None
) -> dict[str, Any]:
    """The network that a state dict is of: its `name` in the table, and its fields.

    Args:
        state_dict, config_text: as for `recognise`.

    Returns:
        As `propose_fields` of the network's torch_names.py (see names.py), with `name`.

    Raises:
        WeightsError: as `recognise`; no network knows the state dict, or none of its fields show.
    """
    found = _find_network(state_dict, config_text)
    if found is None:
        keys = ", ".join(map(shorten, list(state_dict)[:3]))
        raise WeightsError(f"it is of {UNKNOWN}; its first keys are {keys}")
    name, description = found
    propose = getattr(NETWORKS[name].torch_names, "propose_fields", None)
    if propose is None:
        raise WeightsError(
            f"it is {description}; which fields that network has does not show: convert it with "
            "its recipe (convert_torch_weights.py)"
        )
    configured = configured_fields(NETWORKS[name].torch_names, state_dict, config_text)
    return {"name": name, **propose(state_dict), **configured}


def can_propose(state_dict: Mapping[str, np.ndarray], config_text: str | None = None) -> bool:
    """Whether `propose_fields` knows the fields of the network that a state dict is of."""
    found = _find_network(state_dict, config_text)
    return found is not None and hasattr(NETWORKS[found[0]].torch_names, "propose_fields")


def other_network(
    state_dict: Mapping[str, np.ndarray], model: nn.Module, config_text: str | None = None
) -> str | None:
    """A line on weights of another network of the table than `model`, for where they do not load.

    Several networks start from another one's weights, so this alone is no error.

    Args:
        state_dict, config_text: as for `recognise`.
        model: the network that they are loaded into.

    Returns:
        None where they are the model's, or of no known network.
    """
    found = None if is_own(state_dict) else _find_network(state_dict, config_text)
    if found is None or found[0] == name_of(model):
        return None
    name, description = found
    source = network_of(model).torch_names.pretrained_source(model)
    return (
        f"the file is {description}, of the network {name!r}, and the recipe's network is "
        f"{name_of(model)!r} (config key model.name), which starts from {source} or from its own "
        f"weights; give such a file, or a recipe of {name!r}"
    )


def configured_fields(
    names: ModuleType, state_dict: Mapping[str, np.ndarray], config_text: str | None
) -> dict[str, Any]:
    """Fields of a network that only the config of the program that trained it shows.

    Args:
        names: the network's torch_names.py.
        state_dict, config_text: as for `recognise`.
    """
    read = getattr(names, "configured_fields", None)
    return read(state_dict, config_text) if read else {}


def _find_network(
    state_dict: Mapping[str, np.ndarray], config_text: str | None
) -> tuple[str, str] | None:
    """The name of the network that knows a state dict, and a line on what it is."""
    refusal = None
    for name, network in NETWORKS.items():
        try:
            if description := network.torch_names.recognise(state_dict):
                if check := getattr(network.torch_names, "check_config", None):
                    check(state_dict, config_text)
                return name, description
        except UserError as error:
            refusal = refusal or error
    if refusal is not None:
        raise WeightsError(str(refusal)) from refusal
    return None


def is_own(state_dict: Mapping[str, np.ndarray]) -> bool:
    """Whether the keys are paths of variables, as in the folders of `convert_torch_weights.py`."""
    return bool(state_dict) and all(re.match(r"(params|batch_stats)/", key) for key in state_dict)
