"""`run --batch`: the keys, numbers and counts of a plain run; dollars, limits, failures, waves, several processes."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import pytest
from batch_runs import DISTINCT, EACH, MOST, TABLE, BatchRuns, Route, answer, counts, read
from planted_numbers import read_trials

from explaineval.config import ArmConfig, ClientConfig, EndpointConfig, ModelConfig, RunConfig
from explaineval.cost import Price
from explaineval.execution import run
from explaineval.execution.run import execute
from explaineval.planning.cost import Prices, read_price_list
from explaineval.planning.prepare import prepare
from servers.batch_lines import Fate
from servers.batch_server import BatchServer, Call
from servers.commands import WarmCommands


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("route", "style"), [("openai", "chat"), ("openai", "completion"), ("anthropic", "chat")])
def test_a_run_by_batches_is_a_plain_run(warm: WarmCommands, tmp_path: Path, route: Route, style: str) -> None:
    """The same keys, requests and numbers; one request goes alone, each other once in a batch; then all is cached."""
    with BatchRuns(warm, tmp_path, route) as runs:
        plain = runs.run("--style", style, "--cache", "plain", "--out", "plain-out")
        assert (plain.code, counts(plain), runs.server.batches) == (0, (DISTINCT, 0, DISTINCT, 0), {}), plain.stderr
        runs.server.plain.clear()
        batched = runs.run("--style", style, "--batch", "--out", "out")
        calls = len(runs.server.calls)
        again = [runs.run("--style", style, *more, "--out", "out") for more in ((), ("--batch",))]

        assert (batched.code, counts(batched)) == (0, (DISTINCT, 0, DISTINCT, 0)), batched.stderr
        assert batched.document["requests"]["planned"] == plain.document["requests"]["planned"]
        assert batched.document["requests"]["retries"] == 0
        assert len(runs.server.batches) == 1
        assert runs.is_billed_once()
        assert runs.stored() == runs.stored("plain")
        assert batched.document["metrics"] == plain.document["metrics"]
        for name in ("metrics.json", "metrics.csv"):
            assert read(runs, f"out/{name}") == read(runs, f"plain-out/{name}")
        assert [(found.code, counts(found)) for found in again] == [(0, (DISTINCT, DISTINCT, 0, 0))] * 2
        assert len(runs.server.calls) == calls
        assert f"of {DISTINCT - 1} requests submitted" in batched.stderr


NAMES = ("input_cost_per_token", "output_cost_per_token")


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"])
def test_a_plan_is_priced_as_batches(warm: WarmCommands, tmp_path: Path, model: str) -> None:
    """At the provider's own address: the list's prices for batches, and nothing is sent to find them."""
    TABLE.write_task(tmp_path / "task.jsonl")
    TABLE.write_interventions(tmp_path / "edits.jsonl")
    command = ["plan", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--model", model, "--json"]
    found = [warm.run(*command, *more, cwd=tmp_path).document["total"] for more in ((), ("--batch",))]
    entry = read_price_list().prices[model.partition("/")[2]]
    batched = [entry[f"{name}_batches"] for name in NAMES]

    for how in ("low", "expected", "worst"):
        assert found[1]["tokens_out"] == found[0]["tokens_out"]
        assert 0 < found[1]["usd"][how] < found[0]["usd"][how]
    tokens = (found[1]["tokens_in"], found[1]["tokens_out"]["expected"])
    assert found[1]["usd"]["expected"] == pytest.approx(sum(n * p for n, p in zip(tokens, batched, strict=True)))


@pytest.mark.slow
def test_dollars_are_those_of_batches(tmp_path: Path, warm: WarmCommands, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes into a batch costs the price of batches, the request sent alone the ordinary one; so do cached ones."""
    entry = read_price_list().prices["gpt-4o-mini"]
    singly, batched = ((entry[NAMES[0] + end], entry[NAMES[1] + end]) for end in ("", "_batches"))
    name = ("lab", "openai/planted")
    prices = Prices({name: Price(*singly)}, {name: Price(*batched)})
    monkeypatch.setattr(run, "prices_of", lambda *_: prices)
    monkeypatch.chdir(tmp_path)
    with BatchRuns(warm, tmp_path) as runs:
        config, client = (
            RunConfig(
                tasks=("jsonl:task.jsonl",),
                models=(ModelConfig(model=name[1], endpoint=name[0]),),
                arms=ArmConfig(shots=(2,)),
                interventions={"file": tmp_path / "edits.jsonl"},
                max_tokens=MOST,
            ),
            ClientConfig(endpoints={"lab": EndpointConfig(base_url=runs.url)}, batch=True, batch_poll=0.02),
        )
        first, second = (execute(prepare(config, client), None, lambda _: None).totals for _ in range(2))

        assert batched == (singly[0] / 2, singly[1] / 2)
        assert runs.is_billed_once()
        assert first.usd_spent == pytest.approx(runs.dollars(singly, batched))
        assert first.usd_spent > runs.dollars(batched, batched)
        assert second.usd_spent == 0
        assert second.usd_saved_by_cache == pytest.approx(runs.dollars(batched, batched))


@pytest.mark.slow
def test_a_price_that_is_given_holds_for_batches_too(warm: WarmCommands, tmp_path: Path) -> None:
    """--price is what everything costs, alone or in a batch; without it a loopback address costs nothing."""
    with BatchRuns(warm, tmp_path) as runs:
        planned = [runs.run("--price", "10,20", *more, command="plan") for more in ((), ("--batch",))]
        free = runs.run("--batch", "--cache", "free", "--max-usd", "0")
        assert (free.code, free.document["usd_spent"], free.document["usd_from_scratch"]) == (0, 0, 0), free.stderr
        runs.server.plain.clear()
        runs.server.bodies.clear()
        paid = runs.run("--batch", "--price", "10,20")

        assert planned[0].document == planned[1].document
        assert paid.document["usd_spent"] == pytest.approx(runs.dollars((1e-5, 2e-5), (1e-5, 2e-5)))
        assert paid.document["usd_spent"] > 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", range(3))
def test_a_spending_limit_holds_over_batches(warm: WarmCommands, tmp_path: Path, seed: int) -> None:
    """The server's own bill stays within the limit; exit 3 says what the rest costs; more money buys just that."""
    draw = random.Random(seed)
    route: Route = draw.choice(["openai", "anthropic"])
    price = (draw.choice([0, 50]), draw.choice([1000, 3000]))
    per_token = (price[0] / 1e6, price[1] / 1e6)
    server = BatchServer(answer=answer, polls=draw.randint(0, 2), ends=draw.choice([[], ["expired"]]))
    options = ("--batch", "--price", f"{price[0]},{price[1]}", "--order", draw.choice(["pe", "pe2"]), "--out", "out")
    worst = (price[0] * 3000 + price[1] * MOST) / 1e6  # a token has a byte at the least
    limit = MOST * price[1] / 1e6 * draw.uniform(2, 6) + worst * (price[0] > 0)
    with BatchRuns(warm, tmp_path, route, server) as runs:
        poor = runs.run(*options, "--max-usd", str(limit))
        paid = runs.dollars(per_token, per_token)
        asked = sum(server.billed.values()) + len(server.plain)

        assert (poor.code, counts(poor)[2]) == (3, asked), poor.stderr
        assert 1 < asked < counts(poor)[0]
        assert poor.document["usd_spent"] == pytest.approx(paid)
        assert limit - worst < paid <= limit
        said = next(line for line in poor.stderr.splitlines() if "the spending limit" in line)
        numbers = [float(found.rstrip(".")) for found in re.findall(r"\$([\d.]+)", said)]
        assert numbers[1] == pytest.approx(paid, abs=1e-4)
        assert f"The other {counts(poor)[3]} requests would cost" in said
        assert numbers[2] <= numbers[3]

        rich = runs.run(*options)
        assert (rich.code, counts(rich)[1], counts(rich)[2]) == (0, asked, counts(rich)[0] - asked), rich.stderr
        assert runs.is_billed_once(counts(rich)[0])
        assert rich.document["usd_spent"] == pytest.approx(runs.dollars(per_token, per_token) - paid)
        assert rich.document["usd_spent"] <= numbers[3] * (1 + 1e-3)


def test_what_failed_in_a_batch_is_named_in_the_trials(warm: WarmCommands, tmp_path: Path) -> None:
    """Rejected and failed requests: exit 5, the rest is scored; a better day asks only those again."""
    fates: dict[str, Fate] = {"zq001": "400", "zq002": "500", "zq003": "canceled", "zq005": "missing"}
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, fates=dict(fates))) as runs:
        bad = runs.run("--batch", "--out", "out")
        found = {(trial["example_id"], trial["status"]) for trial in read_trials(tmp_path / "out")}
        cut = ("x004", "truncated")

        assert (bad.code, counts(bad)) == (5, (DISTINCT, 0, DISTINCT, 0)), bad.stderr
        assert found - {cut} == {("x000", "ok"), ("x001", "rejected")} | {
            (name, "failed") for name in ("x002", "x003", "x005")
        }
        assert f"{4 * EACH} requests failed in their batch" in bad.stderr
        assert "this prompt is not taken" in bad.stderr
        assert len(runs.server.batches) == 2  # what failed for a while was in a second one

        runs.server.fates.clear()
        good = runs.run("--batch", "--out", "out")
        assert (good.code, counts(good)) == (0, (DISTINCT, 2 * EACH, 4 * EACH, 0)), good.stderr
        assert {trial["status"] for trial in read_trials(tmp_path / "out")} == {"ok", "truncated"}


def test_what_expired_goes_into_a_second_batch(warm: WarmCommands, tmp_path: Path) -> None:
    """Half of the batch expires: the same run asks it again, and nothing is billed twice."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, ends=["expired"])) as runs:
        done = runs.run("--batch")

        assert (done.code, counts(done), len(runs.server.batches)) == (0, (DISTINCT, 0, DISTINCT, 0), 2), done.stderr
        assert runs.is_billed_once()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("more", "known"),
    [(("--order", "pe2"), 1), (("--retry", "truncated"), 0), (("--order", "pe2", "--retry", "truncated"), 1)],
    ids=str,
)
def test_what_follows_from_answers_goes_into_a_second_batch(
    warm: WarmCommands, tmp_path: Path, more: tuple[str, ...], known: int
) -> None:
    """Explanations after answers, and what is asked once more: waves of batches, and the numbers of a plain run."""
    with BatchRuns(warm, tmp_path) as runs:
        plain = runs.run(*more, "--cache", "plain", "--out", "plain-out")
        runs.server.plain.clear()
        batched = runs.run(*more, "--batch", "--out", "out")
        sizes = [len(batch.items) for batch in runs.server.batches.values()]

        assert (batched.code, counts(batched)) == (0, counts(plain)), batched.stderr
        assert sum(sizes) == counts(plain)[2] - 1
        assert sizes[0] == DISTINCT - 1 + known  # the first answer's explanation is known already
        assert len(sizes) >= 2
        assert runs.stored() == runs.stored("plain")
        assert runs.is_billed_once(counts(plain)[0])
        assert read(runs, "out/metrics.json") == read(runs, "plain-out/metrics.json")


@pytest.mark.parametrize("order", [1, -1])
def test_a_model_without_batches_is_refused_before_anything_is_sent(
    warm: WarmCommands, tmp_path: Path, order: int
) -> None:
    """Beside one that has them, whichever comes first: exit 2 in one sentence, no request, no directory."""
    with BatchRuns(warm, tmp_path) as runs:
        models = ["openai/planted", "gemini/planted"][::order]
        command = [part for part in runs.options("--batch") if part not in ("--model", runs.model)]
        for model in models:
            command += ["--model", model]
        refused = warm.run(*command, cwd=tmp_path)
        offline = warm.run(*command, "--offline", cwd=tmp_path)

        assert (refused.code, offline.code) == (2, 4)
        assert "gemini/planted cannot be asked by batches" in refused.document["error"]["message"]
        assert "leave out --batch" in refused.document["error"]["message"]
        assert runs.server.calls == []
        assert not (tmp_path / "cache").exists()


def test_offline_sends_nothing(warm: WarmCommands, tmp_path: Path) -> None:
    """Not even a look at a batch under way."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        runs.end_at(signal.SIGKILL, "poll", "--batch")
        calls = len(runs.server.calls)
        found = runs.run("--batch", "--offline")

        assert (found.code, counts(found)) == (4, (DISTINCT, 1, 0, DISTINCT - 1)), found.stderr
        assert len(runs.server.calls) == calls


@pytest.mark.slow
def test_two_processes_with_batches_pay_once(warm: WarmCommands, tmp_path: Path) -> None:
    """The same command twice at once: one request alone, one batch, each request billed once, the same numbers."""
    waits, deadline = "another process works on this model's batches", time.monotonic() + 60
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:

        def hold(call: Call) -> None:
            if call == "plain":
                time.sleep(2)  # long enough for the other process to come to the same request

        runs.server.on_call = hold
        children = [runs.start("--batch", "--out", f"out{number}") for number in range(2)]
        while not any(child.has_printed(waits) for child in children) and time.monotonic() < deadline:
            time.sleep(0.01)
        runs.wait_for("poll")
        runs.server.finish()
        results = [child.finish() for child in children]

        assert [result.code for result in results] == [0, 0], [result.stderr for result in results]
        assert sum(counts(result)[2] for result in results) == DISTINCT
        assert {counts(result)[0] for result in results} == {DISTINCT}
        assert runs.is_billed_once()
        assert len(runs.server.batches) == 1
        assert read(runs, "out0/metrics.json") == read(runs, "out1/metrics.json")
        assert sum(waits in result.stderr for result in results) == 1
