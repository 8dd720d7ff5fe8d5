"""docs/json.md as data, and the fields that a document really has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from explaineval.records import Completion, Trial

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
COMMON, CODES = "Every document", "Codes of warnings"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]*)")
DATA_KEYS = (
    "completions", "models[].tokens", "models[].outcomes", "example.fields", "example.options",
    "groups[].families[].trend.slopes", "agreement[].unreadable_reasons",
)  # fmt: skip
"""Objects whose own keys are data: keys of the cache, an endpoint's names, fields and letters of an example."""

RECORDS = {
    "show": {
        *(f"trials[].{name}" for name in Trial.model_fields),
        *(f"completions{{}}.{name}" for name in Completion.model_fields),
    }
}
"""Fields that the page leaves to the description of a file."""


def documented() -> dict[str, dict[str, str]]:
    """Section (a command) → its fields and what is said of each, those of every document left out."""
    sections: dict[str, dict[str, str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            fields = sections.setdefault(line[3:].strip("` "), {})
        elif (found := ROW.match(line)) is not None:
            fields[found.group(1)] = found.group(2).strip()
        elif line.startswith("All fields of `run`"):
            fields |= sections["run"]
        elif line.startswith("`metrics` as in `run`"):
            fields |= {name: text for name, text in sections["run"].items() if name.startswith("metrics")}
    return sections


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The fields of a document: `a.b` inside objects, `a[].b` inside lists, `a{}.b` where an object's keys are data."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            here = f"{at}{{}}" if at in DATA_KEYS else f"{at}.{name}" if at else str(name)
            if at not in DATA_KEYS:
                yield here
            yield from paths(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")


def fields_of(command: str, document: Any) -> set[str]:
    """The fields of a command's document that the page has to name."""
    records = RECORDS.get(command, set())
    inside = tuple(f"{name}{end}" for name in records for end in (".", "[", "{"))
    return {path for path in paths(document) if path not in records and not path.startswith(inside or ("\0",))}


def check(command: str, document: Any) -> set[str]:
    """Fail where a field is not documented; the fields that are there."""
    pages = documented()
    found = fields_of(command, document)
    assert found - pages[command].keys() - pages[COMMON].keys() == set()
    return found
