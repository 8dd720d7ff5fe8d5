"""Numbers and names in the words of captions, alternative texts and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from explaineval.records import SIMULATED_NOTE
from explaineval.reporting.plots.figure import Axis, Limits, Point
from explaineval.scoring.metric import Scale
from explaineval.text import flat, interval_text

LISTED = 12
"""Points that an alternative text lists one by one."""

MOST_WITH_INTERVALS = 30
"""Points whose intervals can be told apart in a plane of two numbers."""

NOT_DRAWN = "With so many points their intervals are not drawn."

FEWEST_TICKS = 3

# XML knows no such characters, not even as escapes; `flat` shows all others that do harm.
_NOT_IN_XML = str.maketrans({"\ufffe": "\ufffd", "\uffff": "\ufffd"})


def limits_text(limits: Limits | None) -> str:
    """Return limits in brackets.

    >>> limits_text((0.1, 0.25)), limits_text(None)
    ('[0.10, 0.25]', 'no interval')
    """
    return interval_text(*(limits or (None, None)))


def one_line(text: str) -> str:
    """Return a text on one line, with characters that control or hide something made visible.

    >>> one_line("a\\nb\\x00")
    'a␊b␀'
    """
    return flat(text).translate(_NOT_IN_XML)


def shown(text: str, longest: int = 40) -> str:
    """Return a name on one line, without characters that do harm, and without its middle where it is longer.

    >>> shown("a" * 50 + "z", 9)
    'aaaa…aaaz'
    """
    text = one_line(text)
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def span(values: Iterable[float], include: Sequence[float] = (), *, room: float = 0.02) -> Limits:
    """Return limits of an axis around all values: multiples of 0.1, with a share of the range as room.

    >>> span([0.22, 0.58], include=[0])
    (-0.1, 0.6)
    """
    everything = [*values, *include]
    low, high = min(everything), max(everything)
    space = room * (high - low)
    return math.floor(round(10 * (low - space), 6)) / 10, math.ceil(round(10 * (high + space), 6)) / 10


def axis_of(title: str, values: Iterable[float], scale: Scale, include: Sequence[float] = ()) -> Axis:
    """Return a linear axis around all values, and not beyond what values of this scale can be."""
    low, high = span(values, include)
    return Axis(
        title, low if scale.low is None else max(low, scale.low), high if scale.high is None else min(high, scale.high)
    )


def log_axis(title: str, values: Sequence[float], text_of: Callable[[float], str]) -> Axis:
    """Return a logarithmic axis around positive values, with ticks at powers of ten, or finer ones on a short axis."""
    room = max(1.5, (max(values) / min(values)) ** 0.12)
    low, high = min(values) / room, max(values) * room
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(map(float, range(1, 10)))):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        places = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = tuple((place, text_of(place)) for place in places if low <= place <= high)
        if len(ticks) >= FEWEST_TICKS:
            break
    return Axis(title, low, high, log=True, ticks=ticks)


def simulated_mark(points: Sequence[Point]) -> str | None:
    """Return what a drawing says where it shows simulated models, None where it shows none."""
    simulated = [point for point in points if point.simulated]
    if not simulated:
        return None
    if len(simulated) == len(points):
        return f"All models here are {SIMULATED_NOTE.replace('a language model', 'language models')}."
    return f"simulated/…: {SIMULATED_NOTE}."
