"""The crops of a frame under test: centre, three, five, and ten, which are five and their mirrors.

Where they lie depends on `data.sampling`, because every source of clips has crops of its own.
"""

from aia_jax.data.sampling import dense_stride
from aia_jax.video.resize import Box

CROPS = (1, 3, 5, 10)  # of each clip


def view_boxes(
    crops: int, height: int, width: int, size: int, sampling: str = "reference"
) -> tuple[Box, ...]:
    """The places of the crops of one of `CROPS`: five of ten, whose mirrored views show the same.

    Args:
        crops: of each clip.
        height: of the frame, pixels.
        width: of the frame, pixels.
        size: of the network's input, pixels.
        sampling: the rule, see the function of each number of crops.
    """
    if crops == 1:
        return (center_crop(height, width, size, sampling),)
    if crops == 3:
        return three_crops(height, width, size, sampling)
    return five_crops(height, width, size, sampling)


def center_crop(height: int, width: int, size: int, sampling: str = "reference") -> Box:
    """The test crop: size×size in the middle of a frame.

    It hangs over the edges of a smaller frame on both sides; `crop_frames` fills it with black, as
    the reference does. `sampling` "denseN" and "mmaction2" round half a pixel down, as their
    authors do.
    """
    if dense_stride(sampling) or sampling == "mmaction2":
        return Box(size, size, (width - size) // 2, (height - size) // 2)
    return Box(size, size, _middle(width, size), _middle(height, size))


def three_crops(
    height: int, width: int, size: int, sampling: str = "reference"
) -> tuple[Box, Box, Box]:
    """The three test crops of a frame, size×size.

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        size: of the network's input, pixels.
        sampling: "reference": left, right and centre at whole quarters of the room that is left, so
            the right one may miss the edge by up to three pixels; of an upright frame too.
            "mmaction2": its ThreeCrop, at whole halves of the room along the longer side, so an
            upright frame gives top, bottom and centre, and the second one may miss the edge by a
            pixel. "uniform": from edge to edge along the longer side. "denseN": TokShift's and
            MSCA's, from edge to edge along the width; an upright frame as wide as the crop gives
            three equal ones.

    Returns:
        Left (or top), right (or bottom), centre; with "denseN" centre, left, right.
    """
    center = center_crop(height, width, size, sampling)
    if dense_stride(sampling):
        if width <= size:
            return center, center, center
        return center, center._replace(x=0), center._replace(x=width - size)
    if sampling not in ("uniform", "mmaction2"):
        left, right, *_, center = _quarters(height, width, size)
        return left._replace(y=center.y), right._replace(y=center.y), center
    room = max(height, width) - size
    if room <= 0:
        return center, center, center
    last = room // 2 * 2 if sampling == "mmaction2" else room
    if width >= height:
        return center._replace(x=0), center._replace(x=last), center
    return center._replace(y=0), center._replace(y=last), center


def five_crops(
    height: int, width: int, size: int, sampling: str = "reference"
) -> tuple[Box, Box, Box, Box, Box]:
    """The four corners of a frame and its centre, size×size.

    Args:
        height, width, size: as in `three_crops`.
        sampling: "uniform" and "denseN": from edge to edge; of a side that is shorter than the
            crop, the middle. All others: at whole quarters of the room that is left, as TSN's,
            TSM's and mmaction2's code has them, so those at the right and at the bottom may miss
            the edge by up to three pixels.

    Returns:
        Top left, top right, bottom left, bottom right, centre.
    """
    if sampling != "uniform" and not dense_stride(sampling):
        return _quarters(height, width, size)
    center = center_crop(height, width, size, sampling)
    columns = (0, width - size) if width > size else (center.x, center.x)
    rows = (0, height - size) if height > size else (center.y, center.y)
    corners = (Box(size, size, x, y) for y in rows for x in columns)
    return *corners, center


def _quarters(height: int, width: int, size: int) -> tuple[Box, Box, Box, Box, Box]:
    """Corners and centre at whole quarters of the room that is left, the reference's."""
    x_step, y_step = (width - size) // 4, (height - size) // 4
    places = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
    top_left, top_right, bottom_left, bottom_right, center = (
        Box(size, size, column * x_step, row * y_step) for column, row in places
    )
    return top_left, top_right, bottom_left, bottom_right, center


def _middle(side: int, size: int) -> int:
    """Where the centre crop starts along one side; as torchvision's `CenterCrop` does."""
    if size > side:
        return -((size - side) // 2)
    return round((side - size) / 2)  # a half goes to the even number
