"""Write numbers, shares, p-values, dollars, times and sizes: one text for one value, on the terminal and on pages."""

from __future__ import annotations

import math
from decimal import Decimal

UNDEFINED = "undefined"
"""Stands where a number has no value; the reason stands beside it."""

NO_INTERVAL = "no interval"

NONE = "–"
"""Stands in a table where nothing belongs."""

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"

FEWEST_FOR_PERCENT = 10
"""A rate of fewer trials than this is told as their number: 2 of 5."""

LEAST_DOLLARS = 1e-6
LEAST_P = 0.001
SIGNIFICANT = 0.05
"""A p-value near it is written with as many digits as show on which side it lies."""

_SIZES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number_text(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with so many decimals, with `sign` also a plus; zero has neither minus nor plus.

    >>> number_text(0.12345), number_text(-0.001), number_text(0.2, sign=True), number_text(None)
    ('0.12', '0.00', '+0.20', 'undefined')
    """
    if value is None:
        return UNDEFINED
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def significant_text(value: float, digits: int = 3) -> str:
    """Return a number of any size with so many digits.

    >>> significant_text(1_234_567), significant_text(0.00012345)
    ('1.23e+06', '0.000123')
    """
    return f"{value:.{digits}g}"


def interval_text(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return the limits of an interval in brackets, or that there are none.

    A limit that is nearly 0 has as many digits as show on which side of it it lies.

    >>> interval_text(-0.1, 0.25), interval_text(-0.002, 0.25), interval_text(None, None)
    ('[-0.10, 0.25]', '[-0.002, 0.25]', 'no interval')
    """
    if low is None or high is None:
        return NO_INTERVAL
    return f"[{_limit(low, digits)}, {_limit(high, digits)}]"


def estimate_text(value: float, low: float | None, high: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with its interval in brackets, or that it has none; with `sign` also a plus.

    >>> estimate_text(0.2, 0.1, 0.3, sign=True), estimate_text(0.2, None, None)
    ('+0.20 [0.10, 0.30]', '0.20 no interval')
    """
    return f"{number_text(value, digits, sign=sign)} {interval_text(low, high, digits)}"


def _limit(value: float, digits: int) -> str:
    enough = next((more for more in range(digits, digits + 4) if float(f"{value:.{more}f}")), digits)
    return number_text(value, enough)


def share_text(value: float, digits: int = 0, space: str = " ") -> str:
    """Return a share in per cent, but never 0 or 100 for one that is neither; rounded as `number_text` rounds it.

    >>> share_text(0.4567), share_text(0.4567, 1), share_text(0)
    ('46 %', '45.7 %', '0 %')
    >>> share_text(0.175), number_text(0.175)
    ('17 %', '0.17')
    >>> share_text(0.004), share_text(0.996), share_text(0.0001, 1)
    ('under 1 %', 'over 99 %', 'under 0.1 %')
    """
    text = f"{Decimal(f'{value:.{digits + 2}f}') * 100:.{digits}f}"
    step = 10.0**-digits
    if 0 < value < 1 and float(text) <= 0:
        return f"under {step:g}{space}%"
    if 0 < value < 1 and float(text) >= 100:
        return f"over {100 - step:g}{space}%"
    return f"{text.lstrip('-') if float(text) == 0 else text}{space}%"


def hits_text(share: float, trials: int) -> str | None:
    """Return a share of under FEWEST_FOR_PERCENT trials as their number; None where it is no share of so few.

    >>> hits_text(0.4, 5), hits_text(0.4, 50), hits_text(0.123, 5)
    ('2 of 5', None, None)
    """
    hits = round(share * trials)
    is_count = trials < FEWEST_FOR_PERCENT and math.isclose(hits, share * trials, abs_tol=1e-9)
    return f"{hits} of {trials}" if is_count else None


def p_value_text(p: float | None) -> str:
    """Return a p-value as tables have it.

    >>> [p_value_text(p) for p in (0.0042, 0.00004, 0.31, 0.0499, 0.9999, None)]
    ['.004', '< .001', '.31', '.0499', '> .99', '–']
    """
    if p is None:
        return NONE
    if p < LEAST_P:
        return "< .001"
    if 0.995 <= p < 1:
        return "> .99"
    digits = 3 if p < 0.01 else 2
    while p != SIGNIFICANT and digits < 9 and float(f"{p:.{digits}f}") == SIGNIFICANT:
        digits += 1
    text = f"{p:.{digits}f}"
    return text.removeprefix("0")


def p_text(p: float) -> str:
    """Return a p-value as sentences have it, with its sign of relation.

    >>> p_text(0.0042), p_text(0.00004), p_text(0.31)
    ('= .004', '< .001', '= .31')
    """
    text = p_value_text(p)
    return text if text[0] in "<>" else f"= {text}"


def dollars_text(amount: float | None) -> str:
    """Return an amount of money: cents, or three digits of less than a dollar.

    >>> [dollars_text(amount) for amount in (12.5, 1234.567, 0.5, 0.02134, 0.00123, 0, None)]
    ['$12.50', '$1,234.57', '$0.50', '$0.0213', '$0.00123', '$0', 'unknown']
    """
    if amount is None:
        return "unknown"
    if amount == 0:
        return "$0"
    size = abs(amount)
    minus = "-" if amount < 0 else ""
    if size < LEAST_DOLLARS:
        return f"under ${LEAST_DOLLARS:.6f}"
    if size >= 0.9995:
        return f"{minus}${size:,.2f}"
    text = f"{size:.{2 - math.floor(math.log10(size))}f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{minus}${whole}.{cents:0<2}"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration_text(4), duration_text(200), duration_text(9000), duration_text(400_000)
    ('4 s', '3 min', '2 h 30 min', '4 days 15 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(hours, 24)
    return f"{days} days" + (f" {hours} h" if hours else "")


def bytes_text(size: int) -> str:
    """Return a size in bytes, in units of 1,000.

    >>> bytes_text(512), bytes_text(5_300_000)
    ('512 B', '5.3 MB')
    """
    for factor, unit in _BYTES:
        if size >= factor * 0.99995:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} B"


def parameters_text(parameters: float) -> str:
    """Return a number of parameters as names of models have it.

    >>> parameters_text(1.35e8), parameters_text(7e9), parameters_text(1.5e9)
    ('135M', '7B', '1.5B')
    """
    for factor, letter in _SIZES:
        if parameters >= factor * 0.9995:
            return f"{significant_text(parameters / factor)}{letter}"
    return significant_text(parameters)


def count_text(count: int) -> str:
    """Return a count in few characters.

    >>> count_text(9999), count_text(12_345), count_text(2_340_000)
    ('9,999', '12k', '2.3M')
    """
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"
