"""Colours and shapes of figures, told apart by colour-blind readers, in greyscale, on light and on dark ground.

The colours follow those of Okabe and Ito (2008), moved until each has a contrast of at least 3 to 1 to white and to
nearly black. Shapes repeat the distinction without colour.
"""

from __future__ import annotations

INK = "#1b1b1b"
"""The colour of text and axes; in an SVG it becomes the colour of the text around the figure."""

COLOURS = ("#1f85c9", "#d55e00", "#009e73", "#c75b94", "#9c8200", "#5a6fd0", "#8c6d5a", "#767676")

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")


def colour_of(look: int) -> str:
    """Return the colour of a look."""
    return COLOURS[look % len(COLOURS)]


def shape_of(look: int) -> str:
    """Return the shape of a look; with the colour it repeats after 88 looks only."""
    return SHAPES[look % len(SHAPES)]
