"""Text for people: foreign text made harmless, and numbers, money, times and counts in words.

No other module turns a result into text.
"""

from explaineval.text.harmless import (
    FORMULA,
    HARMFUL,
    MARK,
    escaped,
    flat,
    harmless,
    json_kind,
    quoted,
    shortened,
    visible,
)
from explaineval.text.numbers import (
    NARROW_SPACE,
    NO_INTERVAL,
    NONE,
    UNDEFINED,
    bytes_text,
    count_text,
    dollars_text,
    duration_text,
    interval_text,
    number_text,
    p_text,
    p_value_text,
    parameters_text,
    share_text,
    significant_text,
)
from explaineval.text.words import MOST_NAMES, agreeing, counted, joined, only, wrapped

__all__ = [
    "FORMULA",
    "HARMFUL",
    "MARK",
    "MOST_NAMES",
    "NARROW_SPACE",
    "NONE",
    "NO_INTERVAL",
    "UNDEFINED",
    "agreeing",
    "bytes_text",
    "count_text",
    "counted",
    "dollars_text",
    "duration_text",
    "escaped",
    "flat",
    "harmless",
    "interval_text",
    "joined",
    "json_kind",
    "number_text",
    "only",
    "p_text",
    "p_value_text",
    "parameters_text",
    "quoted",
    "share_text",
    "shortened",
    "significant_text",
    "visible",
    "wrapped",
]  # fmt: skip
