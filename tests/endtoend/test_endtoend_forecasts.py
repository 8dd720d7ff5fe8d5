"""What `plan` says against what the next run then does: counts exactly, tokens and dollars within their bounds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from explaineval.prompts import default_directory
from servers.commands import Result, WarmCommands
from servers.planted import Behaviour
from servers.tables import Table

TABLE = Table(examples=8, words=2, seed=1)
PRICE = ("--price", "1000,3000")
DOLLARS = (100 * 1000 + 20 * 3000) / 1e6
"""What an answer of the planted server costs: 100 tokens in, 20 out."""
EACH = 1 + TABLE.words + 1


def plan(one: Any, warm: WarmCommands, *more: str, models: tuple[str, ...] = ("planted",)) -> dict[str, Any]:
    """The document of `plan` with the bench's options."""
    before = len(one.server.received)
    result: Result = warm.run("plan", *one.options(*more, "--json", models=models)[1:], cwd=one.directory)
    assert result.code == 0, result.stderr + result.stdout
    assert len(one.server.received) == before
    return result.document


def go(one: Any, warm: WarmCommands, *more: str, models: tuple[str, ...] = ("planted",)) -> dict[str, Any]:
    """The document of `run` with the bench's options, its metrics left out, and what the server saw."""
    before = len(one.server.received)
    result: Result = warm.run(*one.options(*more, "--json", models=models), cwd=one.directory)
    document = {**result.document, "code": result.code, "asked": len(one.server.received) - before}
    return {name: value for name, value in document.items() if name != "metrics"}


VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": ((), ("planted",)),
    "samples and shams": (("--samples", "2", "--shams", "3"), ("planted",)),
    "no shams": (("--shams", "0"), ("planted",)),
    "completion": (("--style", "completion"), ("planted",)),
    "explain then predict": (("--order", "ep", "--logprobs", "off"), ("planted",)),
    "two models": (("--limit", "5"), ("planted", "other")),
    "retry": (("--retry", "truncated", "--retry", "unparsed"), ("planted",)),
    "retry and samples": (("--retry", "truncated", "--samples", "2"), ("planted",)),
    "no logprobs": ((), ("deaf",)),
    "no zero": ((), ("warmish",)),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_plan_is_what_the_run_does(bench: Callable[..., Any], warm: WarmCommands, name: str) -> None:
    """Before: counts as the run's, its spend below the worst. After: nothing is missing, and all of it was saved."""
    more, models = VARIANTS[name]
    behaviours = {"deaf": Behaviour(logprobs="rejected"), "warmish": Behaviour(rejects_zero=True)}
    one = bench(TABLE, behaviours=behaviours)
    places = [(pair[0], pair[1]) for pair in TABLE.pairs()[:3]]
    one.server.faults.update(zip(places, (["truncated"], ["unparsed"], ["truncated"]), strict=True))
    before = plan(one, warm, *PRICE, *more, models=models)["total"]
    done = go(one, warm, *PRICE, *more, models=models)
    after = plan(one, warm, *PRICE, *more, models=models)["total"]
    requests = done["requests"]
    again = requests["distinct"] - before["distinct"]  # asked once more, or asked to find out what is taken
    tried = sum(one.outcome == ["400"] for one in one.server.received)

    assert done["code"] == 0
    assert (before["hits"], before["misses"], before["usd_saved"]) == (0, before["distinct"], 0)
    assert again == tried + sum(one.body.get("max_tokens") == 2048 for one in one.server.received) + (name == "retry")
    assert (again - tried > 0) is name.startswith("retry")
    assert requests["planned"] == before["planned"] + again - tried == after["planned"]
    assert requests["sent"] == requests["distinct"] == done["asked"] == after["distinct"] + tried
    assert (after["hits"], after["misses"]) == (requests["distinct"] - tried, 0)
    assert after["usd"] == {"low": 0, "expected": 0, "worst": 0}
    assert (after["tokens_in"], after["tokens_out"]) == (0, {"low": 0, "expected": 0, "worst": 0})
    assert done["usd_spent"] == pytest.approx(DOLLARS * (done["asked"] - tried)) == after["usd_saved"]
    if not again:
        assert done["usd_spent"] <= before["usd"]["worst"]

    second = go(one, warm, *PRICE, *more, models=models)
    assert (second["asked"], second["requests"]["hits"]) == (0, after["hits"])


GROWTHS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "examples": (("--limit", "8"), ("planted",), 4 * EACH),
    "shams": (("--limit", "4", "--shams", "2"), ("planted",), 4),
    # sample 1 of the unchanged prompt is the former sham; its words and the new sham (index 2) are new
    "samples": (("--limit", "4", "--samples", "2"), ("planted",), 4 * (TABLE.words + 1)),
    "models": (("--limit", "4"), ("planted", "other"), 4 * EACH),
    "order": (("--limit", "4", "--order", "ep"), ("planted",), 4 * EACH),
}


@pytest.mark.slow
def test_a_grown_plan_pays_only_for_what_is_new(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """More examples, shams, samples, models, words, another level: by hand what is missing, and its cost."""
    one = bench(TABLE)
    start = go(one, warm, *PRICE, "--limit", "4", "--samples", "1", "--out", "first")
    more_start = go(one, warm, *PRICE, "--limit", "4", "--order", "ep", "--shams", "0", "--out", "aside")
    assert (start["asked"], more_start["asked"]) == (4 * EACH, 4 * (EACH - 1))

    for name, (more, models, new) in GROWTHS.items():
        new -= 4 * (EACH - 1) if name == "order" else 0
        found = plan(one, warm, *PRICE, *more, models=models)
        total = found["total"]
        assert (name, total["misses"]) == (name, new)
        assert total["hits"] + total["misses"] == total["distinct"]
        assert total["usd_saved"] == pytest.approx(DOLLARS * total["hits"])
        if name != "models":  # its lengths are those of answers that were seen, and all of them are alike
            assert total["tokens_out"]["low"] == total["tokens_out"]["expected"] == 20 * new
            assert total["usd"]["expected"] == pytest.approx(DOLLARS * new, rel=0.25)
        assert total["usd"]["expected"] <= total["usd"]["worst"]

    lines = (one.directory / "edits.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    more_words = [{**first, "example_id": f"x{number:03d}", "inserted": f"mork{'t' * 4}q"} for number in range(3)]
    for row in more_words:
        row.pop("edited", None)
    grown = one.directory / "more.jsonl"
    grown.write_text("\n".join([*lines, *map(json.dumps, more_words)]) + "\n", encoding="utf-8")
    options = [*one.options("--limit", "4", *PRICE, "--json")[1:], "--interventions", str(grown)]
    assert warm.run("plan", *options, cwd=one.directory).document["total"]["misses"] == 3

    prompts = one.directory / "prompts"
    shutil.copytree(default_directory(), prompts)
    (prompts / "verbosity" / "curt.txt").write_text("Say as little as you can.\n", encoding="utf-8")
    both = ("--prompts", str(prompts), "--verbosity", "normal", "--verbosity", "curt", "--limit", "4")
    assert plan(one, warm, *PRICE, *both)["total"]["misses"] == 4 * EACH


@pytest.mark.slow
def test_known_lengths_foretell_the_spend(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """After a first part the rest costs what was expected within a quarter, and never more than the worst."""
    one = bench(Table(examples=20, words=2, seed=1))
    go(one, warm, *PRICE, "--limit", "6")
    ahead = plan(one, warm, *PRICE)["total"]
    done = go(one, warm, *PRICE)

    assert done["asked"] == ahead["misses"] == 14 * EACH
    assert done["usd_spent"] == pytest.approx(ahead["usd"]["expected"], rel=0.25)
    assert ahead["usd"]["low"] <= ahead["usd"]["expected"] <= ahead["usd"]["worst"]
    assert done["usd_spent"] <= ahead["usd"]["worst"]
    assert done["usd_saved_by_cache"] == pytest.approx(ahead["usd_saved"])
