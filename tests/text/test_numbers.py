"""What is printed is true of the value: each text is read back as the range of values that it stands for."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from explaineval.text import (
    bytes_text,
    dollars_text,
    duration_text,
    interval_text,
    number_text,
    p_text,
    p_value_text,
    parameters_text,
    share_text,
)

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
SHARES = st.floats(0, 1)
SLACK = 1e-9
"""Room for halves, which are rounded to even."""


def _range(text: str) -> tuple[float, float]:
    """Return the values that a number of this many decimals stands for."""
    decimals = len(text.partition(".")[2])
    half = 0.5 * 10.0**-decimals
    return float(text) - half, float(text) + half


def _holds(value: float, text: str) -> bool:
    low, high = _range(text)
    return low - SLACK * max(1, abs(value)) <= value <= high + SLACK * max(1, abs(value))


@given(NUMBERS, st.integers(0, 4), st.booleans())
@example(-0.004, 2, False)
@example(-0.0, 2, True)
@example(0.004, 2, True)
def test_a_number_is_the_nearest_and_zero_has_no_sign(value: float, digits: int, sign: bool) -> None:
    text = number_text(value, digits, sign=sign)

    assert _holds(value, text.removeprefix("+"))
    assert not re.fullmatch(r"[-+]0\.?0*", text)
    assert text.startswith("+") is (sign and float(text) > 0)


@given(SHARES, st.integers(0, 2))
@example(0.004, 0)
@example(0.9999, 1)
def test_a_share_is_never_none_or_all_where_it_is_neither(value: float, digits: int) -> None:
    text = share_text(value, digits)
    number, per_cent = text.removesuffix(" %"), 100 * value

    if number.startswith("under "):
        assert 0 < per_cent < float(number.removeprefix("under "))
    elif number.startswith("over "):
        assert float(number.removeprefix("over ")) < per_cent < 100
    else:
        assert _holds(per_cent, number)
        assert (float(number) == 0) is (value == 0)
        assert (float(number) == 100) is (value == 1)


@given(st.floats(0, 1))
@example(0.0499999)
@example(0.05)
@example(0.0500001)
@example(0.00099999)
@example(0.9951)
def test_a_p_value_shows_on_which_side_of_a_limit_it_is(p: float) -> None:
    text = p_value_text(p)

    if text == "< .001":
        assert p < 0.001
    elif text == "> .99":
        assert 0.99 < p < 1
    else:
        value = float(text)
        assert _holds(p, text if text == "1.00" else f"0{text}")
        if abs(p - 0.05) > 1e-8:
            assert (value < 0.05) is (p < 0.05)
    assert p_text(p) in (text, f"= {text}")
    assert "0." not in text


@given(st.floats(0, 1e9, allow_nan=False))
@example(0.9994)
@example(0.9995)
@example(0.9996)
@example(1e-7)
@example(0.09999)
def test_dollars_have_cents_or_three_digits(amount: float) -> None:
    text = dollars_text(amount)

    if text.startswith("under $"):
        assert 0 < amount < float(text.removeprefix("under $"))
        return
    value = float(text.removeprefix("$").replace(",", ""))
    assert (
        abs(value - amount) <= max(0.005, 0) + SLACK * amount if amount >= 1 else abs(value - amount) <= 0.006 * amount
    )
    assert (value == 0) is (amount == 0)
    assert text == "$0" or re.fullmatch(r"\$[\d,]+\.\d{2,9}", text)
    assert dollars_text(-amount) == ("$0" if amount == 0 else f"-{text}")


@given(st.floats(0, 1e8, allow_nan=False))
def test_a_duration_is_known_to_its_second_unit(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "day": 86400, "days": 86400}
    parts = re.findall(r"(\d+) (s|min|h|days?)", duration_text(seconds))
    value = sum(int(count) * units[unit] for count, unit in parts)

    assert parts
    finest = "s" if seconds < 99 else "min" if seconds < 172_000 else "h"
    assert abs(value - seconds) <= 0.5 * units[finest]
    assert [units[unit] for _, unit in parts] == sorted((units[unit] for _, unit in parts), reverse=True)


@given(st.integers(0, 10**15))
def test_bytes_are_the_nearest(size: int) -> None:
    number, unit = bytes_text(size).split(" ")
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]

    assert _holds(size / factor, number.replace(",", ""))


@given(st.floats(1, 1e13))
def test_parameters_have_three_digits(parameters: float) -> None:
    text = parameters_text(parameters)
    factor = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1], 1)

    assert math.isclose(float(text.rstrip("kMBT")) * factor, parameters, rel_tol=0.006)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ((None, 0.1), "no interval"),
        ((-0.001, 1), "[-0.001, 1.00]"),
        ((0.0, 0.004), "[0.00, 0.004]"),
        ((-1e-9, 0.1), "[0.00, 0.10]"),
    ],
)
def test_an_interval(limits: tuple[float | None, float | None], text: str) -> None:
    assert interval_text(*limits) == text
