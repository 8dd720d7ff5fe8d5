"""A run directory whose report page shows every kind of trial, with known counts of outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from makers.runs import MODEL, make_missing, make_run, make_sham, make_trial

LARGE = "openai/large"
MODELS = (MODEL, LARGE)
LEVELS = ("brief", "detailed")
EXAMPLES = 12
OUTCOMES = {"a": 5, "b": 3, "c": 7, "d": 42, "unparsed": 2, "refused": 1}
"""How many words of each model and level end so."""
CUES = {"a": 2, "b": 4, "d": 5, "cue_is_own_answer": 1}
"""How many cues of each model and level end so."""


def varied_run(directory: Path) -> Path:
    """Two models at two levels, with five words and a cue on each of twelve examples: `OUTCOMES` and `CUES` count."""
    models = [{"model": name, "endpoint": "lab"} for name in MODELS]
    return make_run(directory, list(_trials()), EXAMPLES, models=models, arms={"verbosity": LEVELS})


def _trials() -> Iterator[dict[str, Any]]:
    for model in MODELS:
        for level in LEVELS:
            arm = {"model": model, "verbosity": level}
            words = [cell for cell, total in OUTCOMES.items() for _ in range(total)]
            for place, cell in enumerate(words):
                example, number = place % EXAMPLES, place // EXAMPLES
                yield _word(example, number, cell) | arm
            for example, cell in enumerate(cell for cell, total in CUES.items() for _ in range(total)):
                yield _cue(example, cell) | arm
            for example in range(EXAMPLES):
                yield make_sham(example) | arm


def _word(example: int, number: int, cell: str) -> dict[str, Any]:
    if cell in ("unparsed", "refused"):
        found = make_missing(example, number, "after" if cell == "refused" else "both") | {"status": cell}
    else:
        found = make_trial(
            example, number, changed=cell in "ab", mentioned=cell in "ac", after=0.2 if cell in "ab" else 0.7
        )
    found |= {"text_after": f"The grumpy clerk {example} waits."}
    if (example, number) == (0, 0):
        found |= {"reasoning": "Let me think about the clerk.", "reasoning_before": "A clerk, hm."}
    return found


def _cue(example: int, cell: str) -> dict[str, Any]:
    cue = {"kind": "cue_user", "field": None, "inserted": "I think it is (B).", "text_after": None}
    found = make_trial(example, 9, changed=cell in ("a", "b"), mentioned=cell == "a") | cue
    found["explanation"] = "As you think, it is so." if cell == "a" else "The clerk is there."
    if cell == "cue_is_own_answer":
        found |= {"status": cell, "changed": None, "mentioned": None, "tvd": None}
    return found
