"""Colours and shapes of figures, told apart by colour-blind readers, in greyscale, on light and on dark ground.

The colours are those of Okabe and Ito (2008), the lighter ones darkened until each has a contrast of at least 3 to 1
to white and to nearly black. Shapes repeat the distinction without colour.
"""

from __future__ import annotations

INK = "#1b1b1b"
"""The colour of text and axes; in an SVG it becomes the colour of the text around the figure."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8559b", "#b07d00", "#4a90c2", "#8c6d5a", "#767676")

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")


def colour_of(look: int) -> str:
    """Return the colour of a look."""
    return COLOURS[look % len(COLOURS)]


def shape_of(look: int) -> str:
    """Return the shape of a look; with the colour it repeats after 88 looks only."""
    return SHAPES[look % len(SHAPES)]
