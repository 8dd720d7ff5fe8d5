"""Every number of a run against what was planted, whether endpoints give, ignore or reject logprobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from planted_numbers import Row, count, expect, of_arm, read_rows, read_trials, values

from servers import commands
from servers.commands import Result
from servers.planted import Behaviour, PlantedServer
from servers.tables import KIND, Arm, Table

pytestmark = pytest.mark.slow  # test_endtoend_pe2 does the same for fewer arms
TABLE = Table(examples=10, words=4, seed=24, shaky=True)
BEHAVIOURS = {
    "lists": Behaviour(),
    "content": Behaviour(text_shape="content"),
    "ignoring": Behaviour(logprobs="ignored"),
    "rejecting": Behaviour(logprobs="rejected"),
    "warmer": Behaviour(rejects_zero=True),
}
STYLES = {"content": ("completion",), "warmer": ("chat",)}
ARMS = [
    Arm(model, style, order)
    for model in BEHAVIOURS
    for style in STYLES.get(model, ("chat", "completion"))
    for order in ("pe", "ep")
]
GRADED = ("cct", "phi_cct_tvd_trials", "mean_tvd")
NO_LOGPROBS = {
    "ignoring": "the endpoint returned no log-probabilities",
    "rejecting": "the endpoint rejects requests for logprobs",
}

CONFIGURATION = """
tasks: ["jsonl:task.jsonl"]
endpoints:
  lab: {{base_url: "{url}", endpoint_name: lab, max_connections: 1}}  # so that a sham is the second of its body
models:
  - {{model: openai/lists, endpoint: lab}}
  - {{model: openai/content, endpoint: lab, style: completion}}
  - {{model: openai/ignoring, endpoint: lab}}
  - {{model: openai/rejecting, endpoint: lab}}
  - {{model: openai/warmer, endpoint: lab, style: chat}}
arms: {{order: [pe, ep], style: [chat, completion], shots: [2]}}
interventions: {{file: edits.jsonl}}
"""


@dataclass(frozen=True)
class Finished:
    """A run of everything, and what the server saw of it."""

    directory: Path
    result: Result
    server: PlantedServer
    metrics: bytes

    @property
    def run_directory(self) -> Path:
        """Where the run's files are."""
        return self.directory / "out"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """All arms in one run of `python -m explaineval`; the server stays up."""
    directory = tmp_path_factory.mktemp("planted")
    TABLE.write_task(directory / "task.jsonl")
    TABLE.write_interventions(directory / "edits.jsonl")
    with PlantedServer(TABLE, BEHAVIOURS) as server:
        (directory / "run.yaml").write_text(CONFIGURATION.format(url=server.url), encoding="utf-8")
        result = commands.run("run", "run.yaml", "--out", "out", "--json", cwd=directory)
        assert result.code == 0, result.stdout + result.stderr
        yield Finished(directory, result, server, (directory / "out" / "metrics.json").read_bytes())


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.model}-{arm.style}-{arm.order}")
def test_every_metric_is_the_planted_one(finished: Finished, arm: Arm) -> None:
    """phi is scikit-learn's MCC and CCT scipy's Pearson of the planted vectors; the rates are plain counts."""
    rows = of_arm(read_rows(finished.run_directory), arm)
    expected = expect(TABLE, arm)
    if arm.model in NO_LOGPROBS:
        expected |= dict.fromkeys(GRADED)

    found = values(rows)
    assert {name: pytest.approx(value, abs=1e-9) for name, value in expected.items()} == {
        name: found[name] for name in expected
    }
    assert {(row["task"], row["endpoint"], row["shots"], row["verbosity"]) for row in rows} == {
        ("task", "lab", 2, "normal")
    }


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.model}-{arm.style}-{arm.order}")
def test_the_table_is_recovered_cell_by_cell(finished: Finished, arm: Arm) -> None:
    """Each trial says changed, mentioned and TVD as planted; a, b, c, d follow from trials and from rates alike."""
    trials = [trial for trial in of_arm(read_trials(finished.run_directory), arm) if trial["kind"] == KIND]
    by_pair = {(trial["example_id"], trial["inserted"]): trial for trial in trials}

    assert set(TABLE.pairs()) == set(by_pair)
    assert len(trials) == len(by_pair)
    for pair, trial in by_pair.items():
        planted = (TABLE.changed(arm, *pair), TABLE.mention(arm, *pair) == "word", TABLE.label(arm, *pair), "ok")
        assert planted == (trial["changed"], trial["mentioned"], trial["label_after"], trial["status"])
        tvd = None if arm.model in NO_LOGPROBS else TABLE.tvd(arm, *pair)
        assert trial["tvd"] == pytest.approx(tvd, abs=1e-9)
        assert (trial["tvd"] is None) == bool(trial["tvd_reason"])
    table = count([trial["changed"] for trial in trials], [trial["mentioned"] for trial in trials])
    by_metric = {row["metric"]: row for row in of_arm(read_rows(finished.run_directory), arm)}
    assert cells(by_metric) == table
    assert table == count(
        [TABLE.changed(arm, *pair) for pair in TABLE.pairs()],
        [TABLE.mention(arm, *pair) == "word" for pair in TABLE.pairs()],
    )


def cells(by_metric: dict[str, Row]) -> tuple[float, float, float, float]:
    """a, b, c, d from two rates and what they count."""
    tpr, fpr = by_metric["tpr"], by_metric["fpr"]
    a, c = tpr["value"] * tpr["n"], fpr["value"] * fpr["n"]
    rounded = tuple(round(x, 9) for x in (a, tpr["n"] - a, c, fpr["n"] - c))
    assert len(rounded) == 4
    return rounded


@pytest.mark.parametrize("model", NO_LOGPROBS)
def test_without_logprobs_cct_is_undefined_and_says_why(finished: Finished, model: str) -> None:
    """An endpoint that ignores or rejects the wish for logprobs is no error: the reason stands in the row."""
    rows = [row for row in read_rows(finished.run_directory) if row["model"] == f"openai/{model}"]
    graded = [row for row in rows if row["metric"] in GRADED]

    assert len(graded) == 4 * len(GRADED)
    assert {(row["value"], row["low"], row["high"]) for row in graded} == {(None, None, None)}
    assert all("logprob" in row["undefined"] or "log-prob" in row["undefined"] for row in graded)
    states = {
        endpoint["model"]: {one["state"] for one in endpoint["capabilities"].values()}
        for endpoint in json.loads((finished.run_directory / "run.json").read_text())["endpoints"]
    }
    assert states == {
        "openai/lists": {"returned"},
        "openai/content": {"returned"},
        "openai/ignoring": {"ignored"},
        "openai/rejecting": {"rejected"},
        "openai/warmer": {"returned"},
    }


def test_a_rejecting_endpoint_is_named_as_the_cause(finished: Finished) -> None:
    """Where the endpoint rejects the wish for logprobs, the reason says so: the user never switched them off."""
    rows = [row for row in read_rows(finished.run_directory) if row["model"] == "openai/rejecting"]

    assert all("reject" in row["undefined"] for row in rows if row["metric"] in GRADED)


def test_trials_with_little_mass_on_letters_have_no_tvd(finished: Finished) -> None:
    """Below the least label mass a trial stays in phi but not in CCT, with its reason and the mass."""
    arm = Arm("lists", "chat", "pe")
    low = [pair for pair in TABLE.pairs() if TABLE.is_low(arm, *pair)]
    trials = [trial for trial in of_arm(read_trials(finished.run_directory), arm) if trial["kind"] == KIND]
    without = {(trial["example_id"], trial["inserted"]): trial for trial in trials if trial["tvd"] is None}

    assert low
    assert set(low) == set(without)
    assert all("0.9" in trial["tvd_reason"] for trial in without.values())
    assert {round(trial["label_mass_after"], 9) for trial in without.values()} == {0.6}
    by_metric = {row["metric"]: row for row in of_arm(read_rows(finished.run_directory), arm)}
    assert by_metric["cct"]["n"] == len(trials) - len(low)
    assert by_metric["phi_cct"]["n"] == len(trials)


def test_a_rejected_temperature_of_zero_is_omitted(finished: Finished) -> None:
    """After the first 400 no body of that model holds a temperature; the others send 0; signatures tell."""
    sent = {
        one.arm.model: {
            other.body.get("temperature")
            for other in finished.server.received
            if other.arm.model == one.arm.model and other.answered
        }
        for one in finished.server.received
    }
    rows = read_rows(finished.run_directory)

    assert sent.pop("warmer") == {None}
    assert set(map(frozenset, sent.values())) == {frozenset({0})}
    for row in rows:
        wanted = "omitted" if row["model"] == "openai/warmer" else "0"
        assert f"|temperature:{wanted}|" in row["signature"]


def test_each_distinct_body_is_sent_once_a_key(finished: Finished) -> None:
    """The unchanged prompt is sent twice, for itself and its sham; every edited one once; refused tries aside."""
    answered = [one for one in finished.server.received if one.answered]
    by_body: dict[str, list[str | None]] = {}
    for one in answered:
        by_body.setdefault(one.digest, []).append(one.place[1])

    assert all(len(words) == (2 if words[0] is None else 1) for words in by_body.values())
    assert len(answered) == len(ARMS) * len(TABLE.ids) * (1 + TABLE.words + 1)
    refused = 3 + 2 + 1  # top 20, 5, 1 in chat, top 5, 1 in completion, temperature 0
    assert len(finished.server.received) == len(answered) + refused
    assert finished.result.document["requests"] == {
        "planned": len(ARMS) * len(TABLE.ids) * 2 * (TABLE.words + 1),
        "distinct": len(answered) + refused,
        "hits": 0,
        "sent": len(answered) + refused,
        "unsent": 0,
        "retries": 0,
    }


def test_the_document_has_the_keys_of_the_contract(finished: Finished) -> None:
    """With --json, standard output is one JSON document whose metrics are those of metrics.json."""
    document = finished.result.document

    assert list(document) == [
        "schema", "run_dir", "exit_code", "signature",
        "usd_spent", "usd_saved_by_cache", "usd_from_scratch", "requests", "metrics",
        "sensitivity", "by_rule", "zero_tests", "warnings",
    ]  # fmt: skip
    assert (document["exit_code"], document["usd_spent"]) == (0, 0.0)
    assert finished.result.stdout.count("\n") == 1
    assert document["metrics"] == json.loads(finished.metrics)
    assert Path(document["run_dir"]).name == "out"


def test_the_same_command_again_asks_nothing(finished: Finished) -> None:
    """All answers come from the cache, the server sees no request, and metrics.json is the same to the byte."""
    before = len(finished.server.received)
    again = commands.run("run", "run.yaml", "--out", "out", "--json", cwd=finished.directory)

    assert again.code == 0
    assert before == len(finished.server.received)
    requests = again.document["requests"]
    assert (requests["sent"], requests["unsent"]) == (0, 0)
    assert requests["hits"] == sum(one.answered for one in finished.server.received)
    assert finished.metrics == (finished.run_directory / "metrics.json").read_bytes()
    assert again.document["metrics"] == finished.result.document["metrics"]


def test_a_run_without_out_finds_its_directory_again(finished: Finished) -> None:
    """Without --out the directory is named after the science: the second time the same one is continued."""
    first = commands.run("run", "run.yaml", "--json", cwd=finished.directory)
    second = commands.run("run", "run.yaml", "--json", cwd=finished.directory)

    assert first.document["run_dir"] == second.document["run_dir"]
    assert [finished.directory / first.document["run_dir"]] == list((finished.directory / "runs").iterdir())
    assert finished.metrics == (finished.directory / first.document["run_dir"] / "metrics.json").read_bytes()


def test_scoring_needs_the_run_directory_alone(finished: Finished, tmp_path: Path) -> None:
    """A copy of the run directory, elsewhere, without cache and server, gives the same numbers."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in finished.run_directory.iterdir():
        if path.is_file() and path.suffix in (".json", ".jsonl") and path.name != "metrics.json":
            (copy / path.name).write_bytes(path.read_bytes())
    result = commands.run("score", copy, "--json", cwd=tmp_path)

    assert result.code == 0
    assert result.document["metrics"] == json.loads(finished.metrics)
    assert not (copy / "metrics.json").exists()
    assert not (tmp_path / "cache").exists()


def test_scoring_by_another_policy_recounts_the_mentions(finished: Finished) -> None:
    """Under `substring` parts of longer words count as mentions too; metrics.json stays as it was."""
    result = commands.run("score", finished.run_directory, "--mention", "substring", "--json", cwd=finished.directory)

    assert finished.metrics == (finished.run_directory / "metrics.json").read_bytes()
    for arm in ARMS:
        if arm.model in NO_LOGPROBS:
            continue
        found = values(of_arm(result.document["metrics"], arm))
        expected = expect(TABLE, arm, "substring")
        assert {name: pytest.approx(value, abs=1e-9) for name, value in expected.items()} == {
            name: found[name] for name in expected
        }
