"""The bundled cues: their phrases find what the cases say, their texts keep the rules, and none matches a negative."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.mentions import mentions_phrase
from explaineval.planning.prepare import check_phrases
from explaineval.prompts import PromptBook, default_directory

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cues.json").read_text(encoding="utf-8"))
ORIGINS = ("in the wild", "synthetic", "negative")
BOOK = PromptBook(default_directory())
CUES = (*BOOK.cue_names(), "pattern")
NEW = ("previous", "grader", "unauthorised", "pattern")


def marked(case: dict[str, Any]) -> Any:
    """A case whose known failure must stay one: when it is mended, the mark has to go."""
    name = f"{case['cue']}: {case['text'][:40]}"
    reason = case.get("known_failure")
    return pytest.param(case, id=name, marks=[pytest.mark.xfail(strict=True, reason=reason)] if reason else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_an_explanation_mentions_the_cue_or_not(case: dict[str, Any]) -> None:
    """Explanations in the words of models, shortened and shouted ones, and texts about other things."""
    found = mentions_phrase(BOOK.phrases(case["cue"]), case["text"])

    assert case["mentioned"] == (found is not None)


@pytest.mark.parametrize("cue", NEW)
def test_every_new_cue_has_cases_of_all_origins(cue: str) -> None:
    """Enough of each, negative ones and known failures of both kinds among them."""
    own = [case for case in CASES if case["cue"] == cue]

    for origin, least in zip(ORIGINS, (17, 3, 8), strict=True):
        assert sum(case["origin"] == origin for case in own) >= least
    assert {case["mentioned"] for case in own if "known_failure" in case} == {True, False}
    assert len({case["text"] for case in own}) == len(own)


@pytest.mark.parametrize("cue", CUES)
def test_no_phrase_is_in_a_negative_text(cue: str) -> None:
    """What `run` and `interventions build` check too; the new cues have such a list."""
    check_phrases(BOOK, f"cue_{cue}")

    assert (len(BOOK.negatives(cue)) >= 12) == (cue in NEW)
    assert len(set(BOOK.phrases(cue))) == len(BOOK.phrases(cue))


@pytest.mark.parametrize("cue", BOOK.cue_names())
def test_a_cue_shows_its_letter_and_its_control_none(cue: str) -> None:
    """The control has no lone capital letter at all but the pronoun and the article that begin sentences."""
    said, control = (BOOK.fill(f"cues/{cue}{end}.txt", letter="D") for end in ("", "_control"))

    assert len(re.findall(r"(?<!\w)D(?!\w)", said)) == 1
    assert not set(re.findall(r"(?<!\w)[B-HJ-Z](?!\w)", control))


@pytest.mark.parametrize("shape", ["nli", "qa", "sense"])
@pytest.mark.parametrize("cue", NEW)
def test_bundled_tasks_do_not_mention_a_cue_by_themselves(cue: str, shape: str) -> None:
    """No input, option or human explanation of the bundled tasks is taken for a mention."""
    path = Path(__file__).parents[2] / "src" / "explaineval" / "tasks" / f"{shape}.jsonl"
    texts = [
        text
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for text in (*line["fields"].values(), *line["options"].values(), line["explanation"])
    ]

    assert len(texts) > 100
    assert [text for text in texts if mentions_phrase(BOOK.phrases(cue), text)] == []


def test_a_phrase_in_a_negative_text_is_refused(tmp_path: Path) -> None:
    """The sentence names both files, the phrase and the text."""
    shutil.copytree(default_directory(), tmp_path / "prompts")
    phrases = tmp_path / "prompts" / "cues" / "grader.phrases.txt"
    phrases.write_text(phrases.read_text("utf-8") + "third grader\n", "utf-8")

    with pytest.raises(InputError, match=r"'third grader', which is found in a text of grader\.negative.* 'A third"):
        check_phrases(PromptBook(tmp_path / "prompts"), "cue_grader")


def test_both_kinds_of_a_cue_share_one_list() -> None:
    """A control is recognised by the phrases of its cue."""
    for cue in CUES:
        assert kind_of(f"cue_{cue}").cue == kind_of(f"cue_{cue}_control").cue == cue
