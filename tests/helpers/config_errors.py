"""The one line that a mistake in a recipe or an override gets."""

import pytest

from aia_jax import config as configs
from aia_jax.errors import UserError


def message(*arguments, **named) -> str:
    with pytest.raises(UserError) as error:
        configs.load(*arguments, **named)
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    return text
