"""What a store holds, counted in one pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from explaineval.records import Completion, Request


@dataclass(frozen=True)
class ModelStats:
    """Answers of one model at one endpoint; `tokens` sums each whole number of the raw usage by its name."""

    endpoint: str | None
    model: str
    entries: int
    tokens: dict[str, int]


@dataclass(frozen=True)
class StoreStats:
    """What a store holds: readable answers, rows that were refused, bytes of the database with its log."""

    entries: int
    refused: int
    bytes: int
    models: tuple[ModelStats, ...]


def summarise(answers: Iterable[tuple[str, Request, Completion]]) -> tuple[ModelStats, ...]:
    """Answers and raw usage by (endpoint, model), in that order."""
    counts: dict[tuple[str | None, str], int] = {}
    tokens: dict[tuple[str | None, str], dict[str, int]] = {}
    for _, request, completion in answers:
        group = (request.endpoint, request.model)
        counts[group] = counts.get(group, 0) + 1
        sums = tokens.setdefault(group, {})
        for name, number in completion.usage.items():
            if type(number) is int:  # nested details and booleans are no counts
                sums[name] = sums.get(name, 0) + number
    groups = sorted(counts, key=lambda group: (group[0] or "", group[1]))
    return tuple(ModelStats(*group, counts[group], dict(sorted(tokens[group].items()))) for group in groups)
