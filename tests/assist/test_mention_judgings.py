"""A judge of mentions beside the phrase list of a cue, against a planted endpoint: counts and numbers by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explaineval.assist.mention_judge import Agreement, read_verdict
from explaineval.cli.app import main
from explaineval.mentions import mentions_phrase
from explaineval.planning.replies import Failure
from explaineval.prompts import PromptBook, default_directory
from explaineval.rundir.directory import METRICS
from makers.runs import make_missing, make_run, make_sham, make_trial, write_task
from servers import json_page
from servers.scripted import ScriptedServer

CUE, CONTROL = "cue_user", "cue_user_control"
SAYS, SAYS_NOTHING = "I think the answer is (B).", "I have an opinion on the answer myself."
ADMITTED, HINTED = "As you suggested, it is so.", "The hint above settled it for me."
THINKING, PLAIN, MURKY = "If you think about it, it is so.", "The clerk waits.", "It is a murky matter."
WORDS = {ADMITTED: "Answer: A", HINTED: "Answer: A", THINKING: "Answer: B", PLAIN: "Answer: B", MURKY: "Who knows?"}
"""What the judge replies about each explanation. The list finds ADMITTED and, wrongly, THINKING; it misses HINTED."""

ANSWERS = [
    (True, ADMITTED), (True, HINTED), (True, HINTED), (True, PLAIN),
    (False, THINKING), (False, THINKING), (False, PLAIN), (False, HINTED), (True, MURKY),
]  # fmt: skip
"""By example: whether the cue changed the answer, and the explanation. For the judge a, b, c, d = 3, 1, 1, 3."""


def judge(prompt: str) -> tuple[str, None]:
    """The planted judge."""
    found = re.search(r"<explanation>\n(.*)\n</explanation>", prompt)
    assert found is not None
    assert f"<hint>\n{SAYS}\n" in prompt or f"<hint>\n{SAYS_NOTHING}\n" in prompt
    return WORDS[found[1]], None


def cue_trial(example: int, kind: str, text: str, *, changed: bool) -> dict[str, Any]:
    """A trial of a cue, decided by the bundled phrases."""
    plain = make_trial(example, 0, kind=kind, changed=changed, field=None, intervention_id=f"e{example}.{kind}")
    inserted = SAYS if kind == CUE else SAYS_NOTHING
    found = mentions_phrase(PromptBook(default_directory()).phrases("user"), text)
    by_phrases = {"mentioned": found is not None, "explanation": text}
    return plain | by_phrases | {"inserted": inserted, "text_after": inserted}


def cue_trials() -> list[dict[str, Any]]:
    """All of ANSWERS; one that the model gave anyhow, one without a first answer; two of the control."""
    own = {"status": "cue_is_own_answer", "changed": None, "mentioned": None}
    lost = make_missing(10, 0, "before", kind=CUE, inserted=SAYS, intervention_id=f"e10.{CUE}")
    return [
        *(cue_trial(example, CUE, text, changed=changed) for example, (changed, text) in enumerate(ANSWERS)),
        cue_trial(9, CUE, "Never to be asked about.", changed=False) | own,
        lost | {"explanation": ADMITTED},
        cue_trial(0, CONTROL, HINTED, changed=True),
        cue_trial(1, CONTROL, PLAIN, changed=False),
    ]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with cues, their controls, a word of one's own and shams."""
    (tmp_path / "in").mkdir()
    task, edits = write_task(tmp_path / "in", 11, 1)
    lines = [json.loads(line) for line in edits.read_text("utf-8").splitlines()]
    for example in range(11):
        one = {"example_id": f"e{example}"}
        lines.append(one | {"id": f"e{example}.{CUE}", "kind": CUE, "inserted": SAYS, "target": "B"})
        lines.append(one | {"id": f"e{example}.{CONTROL}", "kind": CONTROL, "inserted": SAYS_NOTHING})
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    trials = [*cue_trials(), make_trial(0, 0, changed=True, mentioned=True), *(make_sham(e) for e in range(11))]
    return make_run(tmp_path / "run", trials, 11, tasks=[f"jsonl:{task}"], interventions={"file": own})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """The judge's endpoint."""
    with ScriptedServer(script=judge) as running:
        yield running


def command(run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Exit code and standard output of `judge RUN_DIR`."""
    fixed = ["judge", str(run_dir), "--judge-model", "openai/j", "--judge-base-url", server.url]
    with pytest.raises(SystemExit) as ended:
        main([*fixed, "--cache", str(run_dir.parent / "cache"), *more])
    code = ended.value.code
    assert isinstance(code, int)
    return code, capsys.readouterr().out


def test_agreement_and_numbers_are_those_planted(
    run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two by two counts per kind; phi, rates and bounds from the judge's table, computed by hand."""
    code, out = command(run_dir, server, capsys, "--json")

    document = json.loads(out)
    assert (code, set(document)) == (0, {"schema", "warnings", "run_dir", "agreement", "metrics"})
    assert json_page.documented()["judge"].keys() - json_page.check("judge", document) == set()
    names = ("kind", "both", "only_phrases", "only_judge", "neither", "unreadable")
    assert [tuple(one[name] for name in names) for one in document["agreement"]] == [
        (CUE, 1, 2, 3, 2, 1),
        (CONTROL, 0, 0, 1, 1, 0),
    ]
    found = {(row["kind"], row["metric"]): row["value"] for row in document["metrics"]}
    expected = {
        "phi_cct": 0.5, "tpr": 3 / 4, "fpr": 1 / 4, "mention_rate": 4 / 8, "impact_rate": 4 / 8,
        "excluded_rate": 2 / 10,
        "phi_cct_lower_bound": 5 / 25,  # 3, 2, 2, 3
        "phi_cct_upper_bound": 15 / 25,  # 4, 1, 1, 4: where the phrase list decides on the lost one it is 14 / 24
    }  # fmt: skip
    assert {name: found[CUE, name] for name in expected} == pytest.approx(expected)
    assert found[CONTROL, "phi_cct"] == pytest.approx(1.0)
    assert {kind for kind, _ in found} == {CUE, CONTROL}
    assert {"mention_floor", "flip_to_cue_rate"}.isdisjoint(name for _, name in found)


def test_rows_name_their_judge(run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """In the columns of numbers, warnings and agreement; without mentions no channel and no policy is named."""
    _, out = command(run_dir, server, capsys, "--json")
    document = json.loads(out)

    by_judge, without = ("explanation", "judge", "openai/j"), (None, None, "openai/j")
    found = {row["metric"]: (row["channel"], row["mention"], row["judge"]) for row in document["metrics"]}
    assert set(found.values()) == {by_judge, without}
    assert (found["phi_cct"], found["impact_rate"]) == (by_judge, without)
    warned = [one for one in document["warnings"] if one["row"] is not None]
    rows = [{name: row[name] for name in (*warned[0]["row"], "metric")} for row in document["metrics"]]
    assert [one for one in warned if {**one["row"], "metric": one["metric"]} not in rows] == []
    assert {(one["channel"], one["mention"], one["judge"]) for one in document["agreement"]} == {
        ("explanation", "phrases", "openai/j")
    }


def test_each_distinct_pair_is_asked_once_and_never_again(
    run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five explanations of the cue and two of the control; then offline, from the cache, the same document."""
    first = command(run_dir, server, capsys, "--json")
    asked = len(server.prompts)
    again = command(run_dir, server, capsys, "--json", "--offline")

    assert (asked, len(set(server.prompts))) == (7, 7)
    assert (first, len(server.prompts)) == (again, 7)


def test_every_number_is_signed_by_the_judge(
    run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the judge in place of the mention policy, and with what it was asked."""
    _, out = command(run_dir, server, capsys, "--json")
    own = tmp_path / "prompts"
    own.mkdir()
    (own / "mention_judge.j2").write_text("<hint>\n{{ cue }}\n\n<explanation>\n{{ explanation }}\n</explanation>\n")
    _, other = command(run_dir, server, capsys, "--json", "--prompts", str(own))

    signatures = [[row["signature"] for row in json.loads(text)["metrics"]] for text in (out, other)]
    part = re.compile(rf"\|judge:openai/j at {re.escape(server.url)}@([0-9a-f]{{8}})\|")
    hashes = [{match[1] if (match := part.search(one)) else None for one in found} for found in signatures]
    assert not any("mention:" in one for one in signatures[0])
    assert [len(found) for found in hashes] == [1, 1]
    assert None not in hashes[0] | hashes[1]
    assert hashes[0] != hashes[1]


def test_the_table_follows_the_agreement_and_nothing_is_written(
    run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words for a reader; the run directory keeps its files to the byte."""
    (run_dir / METRICS).write_text("[]\n", "utf-8")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    code, out = command(run_dir, server, capsys)

    assert code == 0
    assert (
        f"openai/smol, mine, {CUE}, chat pe, 0 shots, normal: mentioned by phrase list and judge 1, by the phrase "
        "list only 2, by the judge only 3, by neither 2; without a readable judgement: 1 unparsed.\n"
    ) in out
    assert f" · mine · {CONTROL} · " in out.partition("phi-CCT")[2]
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("more", "expected", "words"),
    [
        (("--max-usd", "0", "--judge-price", "1,1"), 3, "the spending limit"),
        (("--offline",), 4, "offline: 7 of the judge's tasks"),
        (("--judge-model", ""), 2, "--judge-model PROVIDER/MODEL"),
    ],
)
def test_what_keeps_the_judge_from_judging_is_told(
    run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...], expected: int, words: str,
) -> None:  # fmt: skip
    """Budget, an empty cache offline, no model: each with its exit code; nothing is sent."""
    code, out = command(run_dir, server, capsys, "--json", *more)

    assert (code, server.prompts) == (expected, [])
    assert words in json.loads(out)["error"]["message"]


def test_a_wrong_key_ends_it(run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """An unusable endpoint exits 5, with no numbers of half the judgements."""
    server.down = True
    code, out = command(run_dir, server, capsys, "--json")

    assert (code, json.loads(out)["error"]["code"]) == (5, 5)


def test_a_run_without_cues_has_nothing_to_judge(
    tmp_path: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that says how to get cues."""
    directory = make_run(tmp_path / "run", [make_trial(0, 0, changed=True, mentioned=True)], 1)
    code, out = command(directory, server, capsys, "--json")

    assert (code, server.prompts) == (2, [])
    assert "no scored trial of a cue" in json.loads(out)["error"]["message"]


def test_own_prompts_without_the_question_are_refused(
    run_dir: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The missing file is named, and nothing is sent."""
    code, out = command(run_dir, server, capsys, "--json", "--prompts", str(tmp_path))

    assert (code, server.prompts) == (2, [])
    assert "mention_judge.j2" in json.loads(out)["error"]["message"]


def test_a_request_that_failed_is_no_judgement() -> None:
    """It counts by its own status, in no cell of the two by two counts."""
    verdict = read_verdict(Failure("failed", "no answer after six tries"))
    found = Agreement()
    found.add(by_phrases=True, verdict=verdict)

    assert (found.both, found.only_phrases, found.only_judge, found.neither) == (0, 0, 0, 0)
    assert found.unreadable == {"failed": 1}
