"""The size of stored frames, as the user writes it."""

import pytest

from aia_jax.errors import UserError
from aia_jax.video.frame_size import FrameSize


@pytest.mark.parametrize("text", ["320", "0x0", "short", "8x8", "short9999", "240*320", ""])
def test_other_sizes_are_refused(text):
    with pytest.raises(UserError, match="--size"):
        FrameSize.parse(text)
