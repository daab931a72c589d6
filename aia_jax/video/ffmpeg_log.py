"""What FFmpeg says in its log about the file that it reads; nothing else tells of some damage."""

import logging
import re
from functools import cache

import av.logging

# What FFmpeg calls errors though no pixel depends on it: data beside the frames, and the
# bookkeeping of reference frames, whose consequences are errors of their own.
_HARMLESS = re.compile(r"\bSEI\b|APP fields|\bVUI\b|^mmco:|^number of reference frames", re.I)
_OF_A_STREAM = re.compile(r"^stream (\d+)\b")
_CUT_OFF = re.compile(r"ended prematurely|partial file")
_LONGEST = 100  # characters of a message that are shown


@cache
def listen() -> None:
    """Lets FFmpeg report errors to `av.logging.Capture`, once in a process, and to nobody else."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # the same error in two videos is two errors
    logger = logging.getLogger("libav")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def decoder_error(messages: list[tuple[int, str, str]]) -> str:
    """The first error of a decoder among captured messages; empty if pixels depend on none."""
    return next((one_line(text) for _, _, text in messages if not _HARMLESS.search(text)), "")


def demuxer_errors(
    messages: list[tuple[int, str, str]], demuxer: str, stream: int
) -> tuple[str, str]:
    """Finds the errors of a demuxer that are about one stream or about the whole file.

    Args:
        messages: that were captured.
        demuxer: its name. Others are of parsers, and the decoder finds the same.
        stream: number of the stream.

    Returns:
        The first error that means that the file ended too early, and the first other one; each
        empty if there is none.
    """
    cut = other = ""
    for _, name, text in messages:
        owner = _OF_A_STREAM.match(text)
        if name != demuxer or (owner and int(owner[1]) != stream):
            continue
        if _CUT_OFF.search(text):
            cut = cut or one_line(text)
        else:
            other = other or one_line(text)
    return cut, other


def one_line(text: str) -> str:
    """A message of FFmpeg without line breaks, shortened."""
    return " ".join(text.split())[:_LONGEST]
