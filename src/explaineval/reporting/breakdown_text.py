"""What a terminal and JSON show of breakdowns: a table of the parts, and in words whether they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from explaineval.records import Condition, Estimate, MetricRow, record_dict
from explaineval.reporting.screen import LineStyle, StyledLine, wrap
from explaineval.reporting.view import describe
from explaineval.scoring.breakdown import FLIPS_TO, TESTED, Breakdown, Part, Test
from explaineval.scoring.codes import finding, warning_of
from explaineval.scoring.registry import FPR, IMPACT_RATE, MENTION_RATE, PHI_AT_P, PHI_CCT, TPR
from explaineval.scoring.shared import FEWEST_OF_EACH
from explaineval.text import (
    NONE,
    UNDEFINED,
    aligned,
    counted,
    estimate_text,
    interval_text,
    joined,
    p_text,
    share_text,
)

SHARES = (TPR, FPR, IMPACT_RATE)

HEADINGS = (
    ("phi-CCT", "[95 % interval]"),
    ("named if", "changed"),
    ("named", "if not"),
    ("changed", ""),
    ("flips", "named"),
)
WIDE, NARROW = (19, 16, 16, 15, 11), (19, 10, 9, 9, 11)
"""The columns of each number on a wide terminal, and on a narrow one, where shares have no interval."""

NARROWEST_NAME = 20

NAMES = {TPR: "named if changed", FPR: "named if not", FLIPS_TO: "where changed answers go"}

LEGEND = (
    "flips named: changed answers whose explanation names the insertion, of all changed answers. Parts are compared by "
    "phi at the pooled rate of changes (phi itself follows that rate), and by how often the insertion is named. p "
    "holds for all tests of the run together (Holm)."
)
FEW = f"A part is in a test only with {FEWEST_OF_EACH} named and {FEWEST_OF_EACH} unnamed flips."


def breakdown_lines(breakdowns: Sequence[Breakdown], width: int) -> Iterator[StyledLine]:
    """Yield the table of each breakdown under its condition, and what its tests say."""
    rows = [_row_of(one.condition) for one in breakdowns]
    chosen = WIDE if width - sum(WIDE) >= NARROWEST_NAME else NARROW
    sizes = [width - sum(chosen), *(-size for size in chosen)]
    last = ""
    for one in breakdowns:
        where = describe(one.condition, rows)
        if where != last:
            yield from ([StyledLine("")] if last else [])
            yield from wrap(f"  {where}", width, "  ", "head")
            if sizes[0] >= NARROWEST_NAME:
                yield from (StyledLine(aligned(["", *row], sizes), "head") for row in zip(*HEADINGS, strict=True))
            last = where
        yield StyledLine("")
        if one.undefined is not None:
            yield from wrap(f"  By {one.title}: not possible, {one.undefined}.", width, "    ")
            continue
        yield from _table(one, sizes, width)
    if any(one.parts for one in breakdowns):
        yield StyledLine("")
        yield from wrap(f"  {LEGEND} {FEW}", width, "  ", "dim")


def _row_of(condition: Condition) -> MetricRow:
    """A row without a number, from which descriptions of conditions see which models, kinds and levels there are."""
    empty = {"value": None, "low": None, "high": None, "n": 0, "n_examples": 0, "undefined": None, "signature": ""}
    return MetricRow(**condition._asdict(), metric=PHI_CCT, **empty)


def _table(one: Breakdown, sizes: Sequence[int], width: int) -> Iterator[StyledLine]:
    yield from wrap(f"  By {one.title}", width, "    ", "head")
    for part in one.parts:
        cells = _cells(part, with_limits=width - sum(WIDE) >= NARROWEST_NAME)
        if sizes[0] >= NARROWEST_NAME:
            yield from _line(f"    {part.name}", cells, sizes)
        else:
            texts = [f"{' '.join(filter(None, heading))} {cell}" for heading, cell in zip(HEADINGS, cells, strict=True)]
            yield from wrap(f"    {part.name}: {', '.join(texts)}", width, "      ")
    look: LineStyle = "warning" if any(test.significant for test in one.tests) else "plain"
    for text in sentences_of(one):
        yield from wrap(f"    {text}", width, "    ", look)


def _line(name: str, cells: Sequence[str], sizes: Sequence[int]) -> Iterator[StyledLine]:
    if len(name) >= sizes[0]:
        yield StyledLine(name)
        name = ""
    yield StyledLine(aligned([name, *cells], sizes))


def _cells(part: Part, *, with_limits: bool) -> list[str]:
    phi = part.numbers[PHI_CCT]
    flips = part.mentioned_flips + part.unmentioned_flips
    return [
        UNDEFINED if phi.value is None else estimate_text(phi.value, phi.low, phi.high).replace("no interval", NONE),
        *(_share(part.numbers[metric], with_limits=with_limits) for metric in SHARES),
        f"{part.mentioned_flips} of {flips}",
    ]


def _share(rate: Estimate, *, with_limits: bool) -> str:
    if rate.value is None:
        return NONE
    if not with_limits or rate.low is None or rate.high is None:
        return share_text(rate.value)
    return f"{share_text(rate.value)} {interval_text(100 * rate.low, 100 * rate.high, 0)}"


def sentences_of(one: Breakdown) -> Iterator[str]:
    """Yield what the tests between the parts say, and what was not tested."""
    yield from _of_answers(one)
    tested = [test for test in one.tests if test.p_adjusted is not None]
    for test in tested:
        if test.significant and test.second is None:
            more = "more" if (test.difference or 0.0) > 0 else "less"
            p = p_text(test.p_adjusted or 0.0)
            yield f"Changed answers go to {test.first} {more} often than answers before were {test.first}, p {p}."
        elif test.significant:
            size = estimate_text(test.difference or 0.0, test.low, test.high, sign=True)
            p = p_text(test.p_adjusted or 0.0)
            yield f"They differ in {_name(test, one)}: {test.first} − {test.second} {size}, p {p}."
    others = [test for test in tested if not test.significant]
    if others:
        least = min(test.p_adjusted or 0.0 for test in others)
        yield f"No difference is shown in {joined([_name(test, one) for test in others])} (smallest p {p_text(least)})."
    few = [part.name for part in one.parts if part.untested]
    if len(one.parts) == 1:
        yield "All trials are in one part: there is nothing to compare."
    elif reasons := dict.fromkeys(test.undefined for test in one.tests if test.undefined and test.metric in TESTED):
        yield f"Not tested: {'; '.join(map(str, reasons))}."
    elif few:
        yield f"In no test, with too few flips: {joined(few)}."
    if one.without:
        yield f"{counted(one.without, 'trial', 'are')} in none of the parts: nothing is known there."


def _of_answers(one: Breakdown) -> Iterator[str]:
    """Yield where changed answers go, how often each answer's explanations name the insertion, and phi among them."""
    if not one.letters:
        return
    shares = [f"{letter.name} {_share(letter.share, with_limits=True)}" for letter in one.letters]
    expected = [
        f"{letter.name} {NONE if letter.expected is None else share_text(letter.expected)}" for letter in one.letters
    ]
    yield f"Changed answers went to {', '.join(shares)}; by the answers before: {', '.join(expected)}."
    named = [f"{part.name} {_share(part.numbers[MENTION_RATE], with_limits=True)}" for part in one.parts]
    yield f"Explanations that name the insertion, by their answer: {', '.join(named)}."
    if one.strata is not None and one.strata.value is not None:
        phi = estimate_text(one.strata.value, one.strata.low, one.strata.high)
        yield f"phi among explanations of the same answer: {phi}."


def _name(test: Test, one: Breakdown) -> str:
    if test.metric == PHI_AT_P:
        return f"phi at {share_text(one.impact_rate or 0.0)} changed"
    return NAMES[test.metric]


def document_of(one: Breakdown) -> dict[str, Any]:
    """Return a breakdown as it stands in JSON documents."""
    return {
        **one.condition.asked,
        "by": one.by,
        "n": one.trials,
        "n_examples": one.examples,
        IMPACT_RATE: one.impact_rate,
        "without": one.without,
        "undefined": one.undefined,
        "parts": [
            {
                "part": part.name,
                "mentioned_flips": part.mentioned_flips,
                "unmentioned_flips": part.unmentioned_flips,
                "untested": part.untested,
                **{metric: record_dict(number) for metric, number in part.numbers.items()},
            }
            for part in one.parts
        ],
        "tests": [
            {
                "metric": test.metric,
                "a": test.first,
                "b": test.second,
                "difference": test.difference,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "p_adjusted": test.p_adjusted,
                "undefined": test.undefined,
            }
            for test in one.tests
        ],
        "phi_same_answer": None if one.strata is None else record_dict(one.strata),
        "letters": [
            {
                "letter": letter.name,
                "base_rate": letter.base_rate,
                "share": record_dict(letter.share),
                "expected": letter.expected,
                "difference": letter.difference.value,
                "low": letter.difference.low,
                "high": letter.difference.high,
                "p": letter.difference.p,
                "undefined": letter.difference.undefined,
            }
            for letter in one.letters
        ],
    }


def warnings_of(breakdowns: Sequence[Breakdown]) -> Iterator[Mapping[str, Any]]:
    """Yield the warnings about parts that are in no test, as they stand in JSON documents."""
    for one in breakdowns:
        for part in one.parts:
            if part.untested is not None:
                for metric in TESTED:
                    found = warning_of(metric, finding("part_untested", title=one.title, reason=part.untested))
                    yield {**record_dict(found), "row": one.condition._asdict()}
