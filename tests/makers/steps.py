"""Counting work, so that tests bound it by steps and not by seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def count_steps(call: Callable[[], object]) -> int:
    """How many functions, built-in ones included, a call makes."""
    steps = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
    return steps
