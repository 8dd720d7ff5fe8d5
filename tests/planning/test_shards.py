"""A shard of a run: which examples it has, and that everything else is that of the whole run."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import Any

import pytest

from explaineval.config import ClientConfig, RunConfig, Shard, build
from explaineval.errors import InputError
from explaineval.planning.prepare import Prepared, inputs_of, prepare

BASE = {"tasks": ["sense", "nli"], "models": [{"model": "simulated/random"}], "arms": {"shots": [2]}, "limit": 20}


def prepared(**changes: Any) -> Prepared:
    """A run of two bundled tasks, or a shard of it."""
    return prepare(build(RunConfig, {**BASE, **changes}, "test"), ClientConfig())


def ids(found: Prepared) -> list[tuple[str, str]]:
    """The examples by task and id, in the order of the run."""
    return [(example.task, example.id) for example in inputs_of(found.tasks, found.chosen)[0]]


def test_an_id_alone_says_the_shard() -> None:
    """The SHA-256 of the id as one hexadecimal number, its remainder by N, plus 1."""
    for name in ("nli-001", "", "ä", "\ud800"):
        number = int(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest(), 16)
        holding = [shard for shard in range(1, 8) if Shard(shard, 7).holds(name)]

        assert holding == [1 + number % 7]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_shards_are_the_parts_of_the_limited_run(count: int) -> None:
    """Every example of the first 20 of each task is in one shard, at its place in the whole; some shards are empty."""
    whole = prepared()
    shards = [prepared(shard=f"{number}/{count}") for number in range(1, count + 1)]
    at = dict(chain.from_iterable(zip(shard.positions, ids(shard), strict=True) for shard in shards))

    assert len(ids(whole)) == sum(len(ids(shard)) for shard in shards) == 40
    assert [at[place] for place in range(40)] == ids(whole)
    assert {shard.whole.name for shard in shards if shard.whole is not None} == {whole.name}
    assert [shard.name for shard in shards] == [f"{whole.name}-{number}of{count}" for number in range(1, count + 1)]
    assert count < 50 or any(not ids(shard) for shard in shards)


def test_interventions_and_shots_are_those_of_the_whole_run() -> None:
    """They are chosen before the cut; a bundled task has more examples than the limit."""
    whole, shard = prepared(), prepared(shard="2/3")

    assert [task.shots for task in shard.tasks] == [task.shots for task in whole.tasks]
    assert shard.chosen.edits == {place: whole.chosen.edits[place] for place in ids(shard)}
    assert shard.chosen.edits


def test_the_shard_is_told() -> None:
    """A note says how many of the run's examples it has."""
    shard = prepared(shard="2/3")

    assert shard.chosen.notes[0].code == "shard"
    assert f"shard 2/3: {len(ids(shard))} of the run's 40 examples" in shard.chosen.notes[0].text


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "1/2/3", "-1/2", "a/b", "1.0/2", "", 1, None, [1, 2]])
def test_what_is_no_shard_is_refused(text: Any) -> None:
    """One sentence says how a shard is written; None is no shard at all."""
    if text is None:
        assert prepared(shard=text).config.shard is None
        return
    with pytest.raises(InputError, match=r"is no shard; write I/N with I from 1 to N, for example 1/4\.$"):
        prepared(shard=text)


def test_a_shard_does_not_stop_by_itself() -> None:
    """--until-half-width looks at all examples, which a shard does not have."""
    with pytest.raises(InputError, match="cannot tell when those of all shards suffice"):
        prepared(shard="1/2", until_half_width=0.2)
