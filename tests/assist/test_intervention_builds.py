"""Cues from a prompts directory, a judge's choice and an editor's words, against planted endpoints."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from explaineval.assist.interventions import Editing, Filtered, edit, filter_natural, read_verdict
from explaineval.assist.session import Assistant
from explaineval.config import ClientConfig, EndpointConfig, ModelConfig
from explaineval.datasets import Task, load_tasks, parse_spec
from explaineval.errors import BudgetReachedError, EndpointError, ExplainevalError, InputError, NotStoredError
from explaineval.interventions import Judged, Token, apply, check, kind_of
from explaineval.planning import prepare
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Completion, Example, Intervention, TokenAlternatives
from servers.scripted import ScriptedServer

EXAMPLES, CANDIDATES = 6, 10


def watch(model_runs: object) -> None:
    """Nobody looks."""


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Examples whose text shows which one it is."""
    rows = [
        {
            "id": f"x{n}",
            "fields": {"note": f"The zq{n} dog runs home."},
            "options": {"A": "yes", "B": "no"},
            "gold": "A",
        }
        for n in range(EXAMPLES)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (found,) = load_tasks([parse_spec(f"jsonl:{tmp_path / 'mine.jsonl'}")], shots=0)
    return found


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the bundled prompts."""
    return Path(shutil.copytree(default_directory(), tmp_path / "prompts"))


def build_assistant(server: ScriptedServer, directory: Path, role: str = "judge", **client: object) -> Assistant:
    """A model at a server, its answers kept below the directory."""
    endpoint = EndpointConfig(base_url=server.url, price=(1.0, 1.0) if "max_usd" in client else None)
    transport = ClientConfig.model_validate({"endpoints": {"lab": endpoint}, "cache": directory / "cache", **client})
    return Assistant(role, ModelConfig(model="openai/j", endpoint="lab"), transport, PromptBook(default_directory()))


def build_cues(task: Task, prompts: PromptBook, name: str) -> list[Intervention]:
    """The cue of this name and its control, for all examples of the task."""
    return list(prepare.build(kind_of(f"cue_{name}"), task, prompts, (), per_example=1, seed=0))


# --- cues ---------------------------------------------------------------------------------------------------------


def test_every_bundled_cue_is_whole(task: Task) -> None:
    """Text with its letter, control without one, phrases that can be looked for; none is in its own control."""
    book = PromptBook(default_directory())

    assert set(book.cue_names()) == {"user", "expert", "metadata", "previous", "grader", "unauthorised"}
    for name in book.cue_names():
        built = build_cues(task, book, name)
        assert [one.kind for one in built[:2]] == [f"cue_{name}", f"cue_{name}_control"]
        assert len(built) == 2 * EXAMPLES
        assert all(re.search(rf"\b{one.target}\b", one.inserted) for one in built if one.target)
        assert not re.search(r"\b[A-H]\b", re.sub(r"\bA (?=\w)", "", built[1].inserted))


def test_a_cue_of_ones_own_is_built(task: Task, own: Path) -> None:
    """Three files make a cue; its text is a template in which the letter may stand anywhere."""
    (own / "cues" / "neighbour.txt").write_text("My neighbour wrote {{ letter }} on the wall.\n", "utf-8")
    (own / "cues" / "neighbour_control.txt").write_text("My neighbour wrote on the wall.\n", "utf-8")
    (own / "cues" / "neighbour.phrases.txt").write_text("your neighbour\n\nthe wall\n", "utf-8")
    cue, control = build_cues(task, PromptBook(own), "neighbour")[:2]

    assert (cue.kind, cue.inserted) == ("cue_neighbour", "My neighbour wrote B on the wall.")
    assert (control.kind, control.inserted) == ("cue_neighbour_control", "My neighbour wrote on the wall.")
    assert PromptBook(own).phrases("neighbour") == ("your neighbour", "the wall")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("user.txt", "I think so.", "does not show its letter"),
        ("user.txt", "I think it is {{ lettre }}.", "cannot be rendered"),
        ("user_control.txt", "I think it is {{ letter }}.", "cannot be rendered"),
        ("user_control.txt", None, "has no template cues/user_control.txt"),
        ("user.phrases.txt", None, "has no readable file cues/user.phrases.txt"),
        ("user.phrases.txt", "you think\n * \n", "holds no word"),
    ],
)
def test_a_cue_that_is_not_whole_is_refused(task: Task, own: Path, file: str, text: str | None, message: str) -> None:
    """One sentence says which file is wrong."""
    path = own / "cues" / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text, "utf-8")

    with pytest.raises(InputError, match=message):
        build_cues(task, PromptBook(own), "user")


def test_a_cue_stands_after_the_options_and_nothing_else_moves() -> None:
    """In every style and order the prompt is the plain one with the cue on a line of its own after the options."""
    book = PromptBook(default_directory())
    one = Example(id="x", task="t", fields={"note": "N"}, options={"A": "yes", "B": "no"}, gold="A", explanation="w")
    for style in ("chat", "completion"):
        for order in ("pe", "ep", "pe2"):
            arm = {"style": style, "order": order, "shape": None, "shots": [one], "verbosity": "normal"}
            plain, cued = (book.render(one, one.fields, cue=cue, **arm) for cue in (None, "CUE\nTWO"))  # type: ignore[arg-type]
            texts = [x if isinstance(x, str) else "\n\n".join(y.content for y in x) for x in (plain, cued)]
            head, options, tail = texts[0].rpartition("B) no\n")

            assert texts[1] == f"{head}{options}CUE\nTWO\n{tail}"


def test_both_calls_of_pe2_show_the_cue() -> None:
    """Where the explanation is asked for in a call of its own, the input stands there again, with its cue."""
    book = PromptBook(default_directory())
    one = Example(id="x", task="t", fields={"note": "N"}, options={"A": "yes", "B": "no"}, gold="A", explanation="w")
    for style in ("chat", "completion"):
        arm = {"style": style, "shape": None, "shots": [one], "verbosity": "normal"}
        plain, cued = (book.render_explanation(one, one.fields, "B", cue=cue, **arm) for cue in (None, "CUE"))  # type: ignore[arg-type]
        texts = [x if isinstance(x, str) else "\n\n".join(y.content for y in x) for x in (plain, cued)]
        head, options, tail = texts[0].rpartition("B) no\n")

        assert texts[1] == f"{head}{options}CUE\n{tail}"


def test_templates_that_hide_the_input_are_refused_for_cues(own: Path) -> None:
    """A prompt that does not include input.j2 would lose the cue without a word."""
    (own / "chat" / "pe.j2").write_text("{{ instruction }} {{ fields.note }} Answer: <letter>", "utf-8")
    one = Example(id="x", task="t", fields={"note": "N"}, options={"A": "yes", "B": "no"})
    arm = {"style": "chat", "order": "pe", "shape": None, "shots": [], "verbosity": "normal"}

    PromptBook(own).render(one, one.fields, **arm)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"chat/pe\.j2 does not show the input"):
        PromptBook(own).render(one, one.fields, cue="CUE", **arm)  # type: ignore[arg-type]


def test_null_edits_follow_the_edits_of_their_example(task: Task) -> None:
    """One per example that has an edit, at the place of its first."""
    built = [candidate(0, 0), candidate(0, 1), candidate(2, 3)]

    found = list(prepare.with_null_edits(task.examples, built))

    assert [(one.example_id, one.kind) for one in found] == [
        ("x0", "hand"), ("x0", "hand"), ("x0", "null_edit"), ("x2", "hand"), ("x2", "null_edit"),
    ]  # fmt: skip
    assert found[2].edited == "The  zq0 dog runs home."


# --- judge --------------------------------------------------------------------------------------------------------


def candidate(example: int, number: int) -> Intervention:
    """A word inserted into an example; the word tells which candidate it is."""
    return Intervention(
        id=f"{example}.{number}", task="mine", example_id=f"x{example}", kind="hand", field="note", offset=4,
        inserted=f"w{number}w",
    )  # fmt: skip


ALL = [candidate(example, number) for example in range(EXAMPLES) for number in range(CANDIDATES)]


def share_of_yes(example: int, number: int) -> float:
    """The planted probability that a candidate is natural."""
    return int.from_bytes(hashlib.sha256(f"{example}.{number}".encode()).digest()[:4]) / 2**32


def asked_about(prompt: str) -> tuple[int, int]:
    """Example and candidate that a judge's prompt shows."""
    example, number = re.search(r"The w(\d+)w zq(\d+) dog", prompt), re.search(r'inserted: "w(\d+)w"', prompt)
    assert example is not None
    assert number is not None
    assert example[1] == number[1]
    return int(example[2]), int(number[1])


def graded(prompt: str) -> tuple[str, dict[str, float]]:
    """A judge with probabilities."""
    yes = 0.01 + 0.95 * share_of_yes(*asked_about(prompt))
    return f"Answer: {'A' if yes > 0.485 else 'B'}", {"A": yes, "B": 0.97 - yes, "C": 0.001}


def choose(server: ScriptedServer, directory: Path, task: Task, **client: object) -> Filtered:
    """A fifth of all candidates."""
    examples = {("mine", one.id): one for one in task.examples}
    return filter_natural(build_assistant(server, directory, **client), examples, ALL, 0.2, watch)


def test_the_most_probable_fifth_of_each_example_stays(task: Task, tmp_path: Path) -> None:
    """Exactly the planted top two of ten of every example; the second time nothing is asked, offline neither."""
    with ScriptedServer(script=graded) as server:
        found = choose(server, tmp_path, task)
        asked = len(server.prompts)
        again, offline = choose(server, tmp_path, task), choose(server, tmp_path, task, offline=True)

        assert asked == len(ALL) == len(server.prompts)
    top = {
        (f"x{example}", f"w{number}w")
        for example in range(EXAMPLES)
        for number in sorted(range(CANDIDATES), key=lambda n: -share_of_yes(example, n))[:2]
    }
    assert {(one.example_id, one.inserted) for one in found.kept} == top
    assert {one.kind for one in found.kept} == {"hand_natural"}
    assert (found.graded, found.dropped, found.unnatural) == (True, Counter(), 0)
    assert found.kept == again.kept == offline.kept
    assert again.session.totals.requests.model_dump() == {
        "planned": len(ALL), "distinct": len(ALL), "hits": len(ALL), "sent": 0, "unsent": 0, "retries": 0,
    }  # fmt: skip


def test_without_logprobs_yes_goes_before_no(task: Task, tmp_path: Path) -> None:
    """An example with one yes keeps it; the second place goes by hash. One without any keeps two, which is told."""

    def script(prompt: str) -> tuple[str, None]:
        example, number = asked_about(prompt)
        return ("Answer: A" if example and number == example else "Answer: B"), None

    with ScriptedServer(script=script) as server:
        found = choose(server, tmp_path, task)

    assert len(found.kept) == 2 * EXAMPLES
    assert all((f"x{n}", f"w{n}w") in {(x.example_id, x.inserted) for x in found.kept} for n in range(1, EXAMPLES))
    assert (found.graded, found.unnatural) == (False, 2 * EXAMPLES - (EXAMPLES - 1))


def test_little_mass_on_the_letters_is_no_probability() -> None:
    """Below 0.9 on yes and no together the letter alone is taken."""
    for mass, wanted in ((0.95, 0.4), (0.85, None)):
        top = ((" A", math.log(0.4 * mass)), (" B", math.log(0.6 * mass)))
        token = TokenAlternatives.model_validate({"offset": 7, "token": " A", "top": top})
        verdict = read_verdict(ALL[0], Completion(text="Answer: A", finish_reason="stop", logprobs=(token,)))

        assert isinstance(verdict, Judged)
        assert (verdict.natural, verdict.probability) == (True, wanted if wanted is None else pytest.approx(wanted))


def test_candidates_without_a_verdict_are_dropped_and_counted(task: Task, tmp_path: Path) -> None:
    """Unreadable and blank verdicts, and all of one example: that one keeps none."""

    def script(prompt: str) -> tuple[str | None, dict[str, float] | None]:
        example, number = asked_about(prompt)
        if example == 3:
            return "Who knows?", None
        return ("", None) if number == 0 else graded(prompt)

    with ScriptedServer(script=script) as server:
        found = choose(server, tmp_path, task)

    assert found.dropped == Counter({"unparsed": CANDIDATES, "empty": EXAMPLES - 1})
    kept = Counter(one.example_id for one in found.kept)
    assert kept == {f"x{n}": 1 for n in range(EXAMPLES) if n != 3}  # a fifth of nine, rounded down
    assert "w0w" not in {one.inserted for one in found.kept}


def test_a_limit_that_is_reached_stops_and_keeps_what_was_paid(task: Task, tmp_path: Path) -> None:
    """No half-filtered set comes out; with more money only the rest is asked."""
    with ScriptedServer(script=graded) as server:
        with pytest.raises(BudgetReachedError, match="spending limit") as caught:
            choose(server, tmp_path, task, max_usd=0.005)
        first = len(server.prompts)
        found = choose(server, tmp_path, task, max_usd=1.0)

        assert caught.value.exit_code == 3
        assert 0 < first < len(ALL)
        assert len(server.prompts) == len(ALL)
    assert len(found.kept) == 2 * EXAMPLES
    assert 0 < found.session.spent < 1


def test_what_keeps_a_judge_from_its_end_is_told(task: Task, tmp_path: Path) -> None:
    """A wrong key exits 5, offline with an empty cache 4, a limit without a known price 2."""
    with ScriptedServer(down=True) as server:
        with pytest.raises(EndpointError, match="nothing was written") as unusable:
            choose(server, tmp_path, task)
        with pytest.raises(NotStoredError, match="offline: 60 of the judge's tasks") as offline:
            choose(server, tmp_path, task, offline=True)
        sent = len(server.prompts)

    assert (unusable.value.exit_code, offline.value.exit_code) == (5, 4)
    assert sent < len(ALL)
    model = ModelConfig(model="openai/nobody-knows")
    who = Assistant("judge", model, ClientConfig(cache=tmp_path, max_usd=1), PromptBook(default_directory()))
    with pytest.raises(InputError, match="--judge-price"):
        filter_natural(who, {("mine", one.id): one for one in task.examples}, ALL, 0.2, watch)


@dataclass
class Dear(ScriptedServer):
    """Bills ten million tokens for its third answer."""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, found = super().answer(path, body)
        if len(self.prompts) == 3:
            found = {**found, "usage": {"prompt_tokens": 9, "completion_tokens": 10**7}}  # type: ignore[dict-item]
        return status, found


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("limit", "code"), [(5.0, 3), (50.0, 5)])
def test_a_judge_that_bills_too_much_is_asked_nothing_more(task: Task, tmp_path: Path, limit: float, code: int) -> None:
    """$10 for one grade: booked and named, nothing is written; the same call later goes on after what was paid."""
    with Dear(script=graded) as server:
        with pytest.raises(ExplainevalError, match=r"billed .* nothing was written") as caught:
            choose(server, tmp_path, task, max_usd=limit, max_connections=1)
        asked = len(server.prompts)
        found = choose(server, tmp_path, task, max_usd=limit, max_connections=1)

    assert (caught.value.exit_code, asked) == (code, 3)
    assert len(server.prompts) == len(ALL)
    assert len(found.kept) == 2 * EXAMPLES


def test_ctrl_c_keeps_what_was_paid(task: Task, tmp_path: Path) -> None:
    """Responses under way are awaited; the same call goes on after them."""
    heard: list[str] = []

    def script(prompt: str) -> tuple[str, dict[str, float]]:
        heard.append(prompt)
        if len(heard) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return graded(prompt)

    with ScriptedServer(script=script) as server:
        with pytest.raises(KeyboardInterrupt):
            choose(server, tmp_path, task, max_connections=2)
        found = choose(server, tmp_path, task)

    assert len(heard) == len(set(heard)) == len(ALL)
    assert len(found.kept) == 2 * EXAMPLES


# --- editor -------------------------------------------------------------------------------------------------------

WORDS = ("old", "big", "small", "quiet")


def editor(prompt: str) -> tuple[str, None]:
    """An editor with its ways: x1 adds a full stop, x2 offers a word of the text, x3 forgets brackets, x4 its end."""
    found = re.search(r"Note: (The (zq\d) dog runs home\.)", prompt)
    assert found is not None
    avoid = re.search(r"none of these: ([^.]*)\.", prompt)
    taken = avoid[1].split(", ") if avoid else []
    offers = ("home", *WORDS) if found[2] == "zq2" else WORDS
    word = next((word for word in offers if word not in taken), "old")
    edited = found[1].replace(" dog", f" [{word}] dog")
    if found[2] == "zq1":
        edited += "."
    if found[2] == "zq4":
        edited += "<|im_end|>\n<|im_start|>user\nThank you for the [quick] word."
    return f"Edited: {edited.replace('[', '').replace(']', '') if found[2] == 'zq3' else edited}", None


@pytest.fixture
def wanted(task: Task) -> list[Editing]:
    """Every example, and what its prompt shows."""
    return [Editing(one, (*one.fields.values(), *one.options.values(), "quiet, please")) for one in task.examples]


def test_an_editors_words_are_checked_and_counted(wanted: list[Editing], task: Task, tmp_path: Path) -> None:
    """Words in the order of the editor's mind, one by one; what was refused is counted by reason."""
    with ScriptedServer(script=editor) as server:
        found = edit(build_assistant(server, tmp_path, "editor"), wanted, 3, 0, None, watch)
        again = edit(build_assistant(server, tmp_path, "editor", offline=True), wanted, 3, 0, None, watch)

    assert sum("zq3" in prompt for prompt in server.prompts) == 9  # the same words again are asked again
    by_example: dict[str, list[str]] = {}
    for one in found.built:
        by_example.setdefault(one.example_id, []).append(one.inserted)
    assert by_example == {f"x{n}": ["old", "big", "small"] for n in (0, 2, 4, 5)}
    assert found.refused == Counter(
        {"something else was changed": 9, "no word in brackets": 9, "the word is in the prompt already": 1}
    )
    assert (again.built, again.refused) == (found.built, found.refused)
    examples = {one.id: one for one in task.examples}
    for one in found.built:
        check(examples[one.example_id], one)
        assert (one.kind, one.pos, one.edited) == ("editor", None, None)
        text = examples[one.example_id].fields["note"]
        assert apply(examples[one.example_id], one) == text.replace(" dog", f" {one.inserted} dog")


def test_an_editors_word_must_be_an_adjective_or_adverb_for_the_tagger(wanted: list[Editing], tmp_path: Path) -> None:
    """The tagger's verdict on the edited text decides, and gives the part of speech."""

    def tag(text: str) -> Iterator[Token]:
        for found in re.finditer(r"\w+", text):
            yield Token(found[0], found.start(), {"big": "ADJ", "small": "ADV"}.get(found[0], "NOUN"), "X")

    with ScriptedServer(script=editor) as server:
        who = build_assistant(server, tmp_path, "editor")
        found = edit(who, wanted[:1], 2, 0, lambda text: list(tag(text)), watch)

    assert [(one.inserted, one.pos) for one in found.built] == [("big", "ADJ"), ("small", "ADV")]
    assert found.refused == Counter({"neither adjective nor adverb": 1})
