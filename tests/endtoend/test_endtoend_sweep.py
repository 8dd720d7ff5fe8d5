"""A sweep of 24 planted models, killed twice: nothing is bought twice, and `compare` finds what was planted.

`benchmarks/sweep.py` does the same with more tasks, levels and examples.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from servers import commands
from servers.commands import WarmCommands
from servers.sweeps import CONNECTIONS, FAMILIES, KILLS, Size, Sweep, World, read_findings

SIZES: dict[World, Size] = {
    "rising": Size(tasks=1, levels=("normal", "detailed"), examples=10, words=5),
    "flat": Size(tasks=1, levels=("normal",), examples=10, words=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("world", SIZES)
def test_a_sweep_of_many_models_finds_what_was_planted(
    world: World, warm: WarmCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trend over size where there is one and not elsewhere; the order of the models; the variance explained."""
    monkeypatch.setattr(commands, "LONGEST", 600.0)
    size = SIZES[world]
    sweep = Sweep(world, size, tmp_path, transport="direct")
    with sweep.server:
        sweep.write()
        last, lost = sweep.run(warm)
        assert last.code == 0, last.stderr
        bought = sweep.bought()
        bodies = {received.digest for received in sweep.server.received if received.answered}
        compared = read_findings(sweep, sweep.compare(warm))

        assert bought == sweep.bought()
    assert len(bodies) == size.requests
    assert bought == size.requests + sum(lost)
    assert len(lost) == len(KILLS)
    assert max(lost) <= 2 * CONNECTIONS * len(FAMILIES)  # under way, or arrived and not yet on the disk
    requests = last.document["requests"]
    assert requests["distinct"] - requests["hits"] <= (1 - KILLS[-1]) * size.requests + sum(lost) + 100
    for found in compared:
        assert found.has_trend == (world == "rising"), found.trend
        assert spearmanr(found.planted, found.measured).statistic > 0.7
        for explained, planted in found.explained:
            assert explained["n_models"] == 12
            assert explained["low"] <= planted <= explained["high"], explained
