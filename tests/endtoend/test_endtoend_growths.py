"""A run directory that grows: only what is new is asked; what is another run is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from planted_numbers import count, read_rows, read_trials, values

from servers.commands import WarmCommands
from servers.tables import KIND, Arm, Table

TABLE = Table(examples=8, words=2, seed=1)


@pytest.mark.slow
def test_a_grown_run_asks_only_what_is_new(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """More examples, more samples, another model, in the same directory; then changes that make it another run."""
    one = bench(TABLE)
    server, directory = one.server, one.directory

    def run(*more: str, models: tuple[str, ...] = ("planted",)) -> tuple[dict[str, Any], int]:
        before = len(server.received)
        result = warm.run(*one.options("--out", "out", "--json", *more, models=models), cwd=directory)
        assert result.stderr == "" or "explaineval:" in result.stderr
        return {**result.document, "code": result.code}, len(server.received) - before

    each = 1 + TABLE.words + 1  # unchanged, edited, sham
    first, asked = run("--limit", "3")
    assert (0, 3 * each) == (first["code"], asked)

    grown, asked = run("--limit", "7")
    assert (0, 4 * each) == (grown["code"], asked)
    assert (3 * each, 4 * each) == (grown["requests"]["hits"], grown["requests"]["sent"])

    # sample 1 of the unchanged prompt is the former sham; its words and the new sham (index 2) are new
    sampled, asked = run("--limit", "7", "--samples", "2")
    assert (0, 7 * (TABLE.words + 1)) == (sampled["code"], asked)

    both, asked = run("--limit", "7", "--samples", "2", models=("planted", "other"))
    assert (0, 7 * (2 * (1 + TABLE.words) + 1)) == (both["code"], asked)
    assert {"other"} == {received.arm.model for received in server.received[-asked:]}

    trials = read_trials(directory / "out")
    for model in ("planted", "other"):
        arm = Arm(model, "chat", "pe")
        mine = [t for t in trials if t["model"] == f"openai/{model}" and t["kind"] == KIND]
        assert len(mine) == 7 * TABLE.words * 2
        planted = [(TABLE.changed(arm, *pair), TABLE.mention(arm, *pair) == "word") for pair in TABLE.pairs()[:14]]
        a, b, c, d = (2 * cell for cell in count(*zip(*planted, strict=True)))
        assert (a, b, c, d) == count([t["changed"] for t in mine], [t["mentioned"] for t in mine])
        found = values(row for row in read_rows(directory / "out") if row["model"] == f"openai/{model}")
        assert found["impact_rate"] == pytest.approx((a + b) / (a + b + c + d))

    metrics = (directory / "out" / "metrics.json").read_bytes()
    for other in (("--mention", "lemma"), ("--temperature", "0.5"), ("--max-tokens", "77"), ("--order", "ep")):
        refused, asked = run("--limit", "7", "--samples", "2", *other, models=("planted", "other"))
        assert (refused["code"], asked) == (2, 0)
        assert list(refused) == ["schema", "warnings", "error", "code"]
        assert refused["error"]["code"] == 2
        assert "already holds another run" in refused["error"]["message"]
    assert metrics == (directory / "out" / "metrics.json").read_bytes()


def test_a_smaller_limit_in_the_same_directory_is_another_run(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """A run directory grows, it never shrinks: fewer examples are refused and nothing is asked."""
    one = bench(TABLE)
    first = warm.run(*one.options("--out", "out", "--limit", "3"), cwd=one.directory)
    asked = len(one.server.received)
    second = warm.run(*one.options("--out", "out", "--limit", "2"), cwd=one.directory)

    assert (first.code, second.code) == (0, 2)
    assert "already holds another run" in second.stderr
    assert asked == len(one.server.received)
