"""Every prompt's rendered text and hash, and a cache key for each style, are what they were.

`data/prompts.json.gz` is written anew by `PYTHONPATH=tests:tests/pinned python -m test_pinned_prompts`,
for a change that CHANGELOG.md names.
"""

from __future__ import annotations

import itertools
from typing import Any

from pinned_runs import read, write

from explaineval.cache import request_key
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Example, Request

STYLES, ORDERS = ("chat", "completion"), ("pe", "pe2", "ep")
LEVELS = ("minimal", "brief", "normal", "detailed", "exhaustive")
SHAPES = {
    "nli": ({"premise": "A dog runs.", "hypothesis": "An animal moves."}, "ABC"),
    "qa": ({"question": "Where is rain?"}, "ABCDE"),
    "sense": ({"sentence1": "He ate soup.", "sentence2": "He ate a roof."}, "AB"),
    None: ({"note": "One zq001 was found.", "claim": "It is lost."}, "ABC"),
}


def example(fields: dict[str, str], letters: str, number: int) -> Example:
    """A made-up example; number 0 is the one that is asked about, the others are shots."""
    options = {letter: f"option {letter.lower()}" for letter in letters}
    explanation = f"Because of {number}." if number else None
    named = {name: f"{text} ({number})" if number else text for name, text in fields.items()}
    return Example(id=f"e{number}", task="t", fields=named, options=options, gold="A", explanation=explanation)


def render_all() -> dict[str, Any]:
    """Texts, hashes and keys by name."""
    book = PromptBook(default_directory())
    found: dict[str, Any] = {}
    for (shape, (fields, letters)), style, order, level in itertools.product(SHAPES.items(), STYLES, ORDERS, LEVELS):
        asked, *shots = (example(fields, letters, number) for number in range(3))
        name = f"{shape or 'default'} {style} {order} {level}"
        found[f"{name} hash"] = book.digest(style=style, order=order, shape=shape, verbosity=level)
        for count, cue in ((0, None), (2, None), (2, "A professor thinks the answer is (B).")):
            arguments: dict[str, Any] = {
                "style": style,
                "shape": shape,
                "shots": shots[:count],
                "verbosity": level,
                "cue": cue,
            }
            where = f"{name} {count} shots{', cue' if cue else ''}"
            found[where] = _plain(book.render(asked, asked.fields, order=order, **arguments))
            if order == "pe2":
                found[f"{where}, second call"] = _plain(book.render_explanation(asked, asked.fields, "A", **arguments))
    for cue in ("user", "expert", "metadata"):
        found[f"cue {cue} hash"] = book.cue_digest(cue)
    common = {"endpoint": "lab", "model": "openai/m", "max_tokens": 64, "temperature": 0.0, "sample": 1}
    chat = Request(
        style="chat", messages=({"role": "user", "content": "Hé?"},), logprobs=20, params={"top_p": 0.5}, **common
    )
    text = Request(style="completion", prompt="Hé:", stop=("\n\n",), logprobs=5, **common)
    return found | {"key chat": request_key(chat), "key completion": request_key(text)}


def _plain(rendered: Any) -> Any:
    return rendered if isinstance(rendered, str) else [[turn.role, turn.content] for turn in rendered]


def test_prompts_and_keys_are_what_they_were() -> None:
    """All shapes, styles, orders and levels, with and without shots and a cue; names may be added."""
    recorded, found = read("prompts"), render_all()

    assert recorded == {name: found.get(name) for name in recorded}


if __name__ == "__main__":
    write("prompts", render_all())
