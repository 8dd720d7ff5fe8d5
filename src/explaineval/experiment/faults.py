"""What a run says of money that ran out, of bills that never came, and of answers that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os.path import commonprefix

from explaineval.cache import request_key
from explaineval.client import texts_of
from explaineval.experiment.lanes import Lane
from explaineval.experiment.notes import Note, note
from explaineval.experiment.preparations import Prepared
from explaineval.records import Request

SHOWN_CHARACTERS = 90


def money_notes(lanes: list[Lane]) -> Iterator[Note]:
    """What is not sure about the money: attempts without a bill."""
    attempts = sum(lane.budgeted.unbilled for lane in lanes if lane.budgeted is not None)
    most = sum(lane.budgeted.unknown for lane in lanes if lane.budgeted is not None)
    if attempts and most:
        yield note(
            "bill_unknown",
            f"{attempts} attempts ended without a bill (time-out, reset, cut answer): up to ${most:.4f} more than "
            "stands here may have been charged; a spending limit counts it as spent.",
        )


def limit_fault(lanes: list[Lane], limit: float | None) -> str | None:
    """The sentence for a run that ran out of money: what was kept, what the rest would take. None where it did not."""
    poor = [lane for lane in lanes if lane.out_of_money]
    if not poor:
        return None
    purse = next(lane.budgeted.budget.total for lane in lanes if lane.budgeted is not None)
    limits = [f"${limit:g}" if limit is not None else ""]
    limits += [f"${lane.model.max_usd:g} for {lane.model.model}" for lane in poor if lane.model.max_usd is not None]
    left = [lane.forecast for lane in lanes if lane.forecast.misses]
    totals = {name: sum(one.usd()[name] or 0.0 for one in left) for name in ("expected", "worst")}
    return (
        f"the spending limit ({', '.join(filter(None, limits))}) is reached: ${purse.spent:.4f} are spent, and the "
        f"numbers are those of what was paid for. The other {sum(one.misses for one in left):,} requests would cost "
        f"about ${totals['expected']:.4f}, ${totals['worst']:.4f} at the most: give the same command with a higher "
        "--max-usd."
    )


def offline_fault(prepared: Prepared, lanes: list[Lane]) -> str | None:
    """The sentence for an offline run that lacks answers: how many, of whom, and what the first of them ask."""
    short = [lane for lane in lanes if lane.forecast.misses] if prepared.client.offline else []
    if not short:
        return None
    total = sum(lane.forecast.misses for lane in short)
    lines = [f"offline, and {total:,} answers are not in the cache; the numbers are those of what is there."]
    for lane in short:
        guess = " (nothing is stored about its logprobs: they are assumed)" if lane.assumed else ""
        lines.append(f"  {lane.model.model}: {lane.forecast.misses:,} missing{guess}, the first of them:")
        keys = [request_key(one)[:16] for one in lane.unsent]
        lines += [f"    {key}  {text}" for key, text in zip(keys, excerpts(lane.unsent), strict=True)]
    lines.append("  `explaineval cache explain` says why they are misses; without --offline they are asked.")
    return "\n".join(lines)


def excerpts(requests: Sequence[Request]) -> list[str]:
    """What tells each of these requests from the others, on a line: the part of its text that not all of them share."""
    texts = [" ".join(texts_of(one)[-1].split()) for one in requests]
    start = len(commonprefix(texts)) if len(set(texts)) > 1 else 0  # noqa: RUF071 - characters are what is wanted
    found = []
    for one, text in zip(requests, texts, strict=True):
        begin = max(0, text.rfind(" ", 0, start) + 1)
        part = text[begin : begin + SHOWN_CHARACTERS]
        part = ("…" if begin else "") + part + ("…" if begin + len(part) < len(text) else "")
        found.append(part + (f" (sample {one.sample})" if one.sample else ""))
    return found
