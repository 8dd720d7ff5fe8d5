"""A run directory takes the same run again and additions to it, and names what makes a run another one."""

from __future__ import annotations

from typing import Any

import pytest

from explaineval.rundir.directory import difference
from explaineval.rundir.schema import Science

FIXED = {"seed": 3, "order": ["pe"], "max_tokens": 64}
GROWING = {
    "models": [["lab", "openai/smol", None, None]],
    "samples": [0, 1],
    "verbosity": ["normal"],
    "prompts": {"default chat pe normal": "a"},
    "shots": {"mine": "b"},
}


def science(fixed: dict[str, Any] | None = None, **growing: Any) -> Science:
    """The science of a run, with changes."""
    return Science.model_validate({"fixed": FIXED | (fixed or {}), "growing": GROWING | growing})


@pytest.mark.parametrize(
    "growing",
    [
        {},
        {"samples": [0, 1, 2]},
        {"models": [["lab", "openai/smol", None, None], [None, "a/b", "chat", 2]]},
        {"verbosity": ["brief", "normal"]},
        {"prompts": {**GROWING["prompts"], "default chat pe brief": "c"}},
        {"shots": {**GROWING["shots"], "other": "d"}},
    ],
)
def test_the_same_run_and_an_addition_are_no_difference(growing: dict[str, Any]) -> None:
    """More of what may grow is an addition, whatever its order."""
    assert difference(science(), science(**growing)) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (science(samples=[0]), "its sample 1 is not asked now, and may not be left out"),
        (science(models=[["lab", "openai/smol", "chat", None]]), "its model openai/smol at lab is not asked now"),
        (science(verbosity=["brief"]), "its verbosity level normal is not asked now"),
        (science(prompts={"default chat pe normal": "x"}), "its prompts differ"),
        (science(shots={}), "its shots differ"),
        (science({"seed": 4}), "it was asked with --seed 3, now 4"),
        (science({"order": ["pe", "ep"]}), "it was asked with --order pe, now pe,ep"),
    ],
)
def test_what_makes_it_another_run_is_named(changed: Science, message: str) -> None:
    """What was there and is no longer, and every fixed setting that changed."""
    reason = difference(science(), changed)

    assert reason is not None
    assert reason.startswith(message)


def test_a_setting_of_a_later_version_had_its_default_before() -> None:
    """A directory of a version without that setting is continued at its default alone."""
    assert difference(science(), science({"retry": []})) is None
    assert difference(science(), science({"retry": ["truncated"]})) == "it was asked with --retry (none), now truncated"
