"""The runs that `explaineval validate` makes: which simulated models are asked what, and what is planted in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from explaineval.client.simulated import LAWS, LEVELS, Law
from explaineval.config import ClientConfig, RunConfig, build

REPLICATES = 20
"""Models of one law whose draws are independent: how many of their intervals hold the planted value."""

EXACT, STEADY = "exact", "steady"
"""Names of the laws that are read back one by one, and whose TPR does not depend on the level."""

OWN_LAWS: Mapping[str, Law] = {
    EXACT: Law(impact=0.4, tpr=0.7, fpr=0.4, wording="varied"),
    STEADY: Law(tpr=0.8, fpr=0.1),
    **{f"r{number:02}": Law() for number in range(1, REPLICATES + 1)},
}
"""The laws that this check adds to those that the package has."""

SENTENCES = (
    "The gardener waters the roses before sunrise",
    "A boat without a rudder drifts past the harbour",
    "My neighbour bakes bread on Friday evening",
    "The old clock in the hall runs five minutes late",
    "Children build a castle from wet sand",
    "Nobody in the village owns a lorry",
    "Her brother plays the cello in an orchestra",
    "The baker sells rolls until noon",
    "Snow covers the roof of the barn",
    "A letter from the bank lies under the door",
    "The teacher draws a circle on the board",
    "Two foxes cross the road at night",
    "His coat hangs behind the kitchen door",
    "The river floods the meadow every spring",
    "An engineer repairs the bridge with steel",
    "The cat sleeps on a pile of newspapers",
)

SHOTS = (
    ("A spider spins a web in the window", "A", "A spider is an animal."),
    ("The kettle whistles on the stove", "B", "A kettle is an object."),
    ("It rains again", "C", "Rain is no creature and no object."),
    ("Two geese fly over the pond", "A", "Geese are birds."),
    ("A spoon falls behind the drawer", "B", "A spoon is an object."),
    ("Nothing happened yesterday", "C", "It names no creature and no object."),
    ("The donkey carries hay", "A", "A donkey is an animal."),
    ("The lamp flickers", "B", "A lamp is an object."),
)
"""Examples that prompts in completion style show, with their answers and explanations."""

TRAPS = ("cause", "standing", "set", "use", "tie", "particular")
"""Words that stand inside other words of varied explanations ("Because", "Notwithstanding"), which are no mentions."""


class SetUp(NamedTuple):
    """One run: its name in messages, what is asked of which models, and how they are reached.

    Where `rates` is False only what is read of each reply is checked, and not the numbers.
    """

    name: str
    config: RunConfig
    client: ClientConfig
    rates: bool = True


class Own(NamedTuple):
    """What of the user's own is checked; None and nothing stand for what the package has."""

    prompts: Path | None = None
    mention: str | None = None
    tasks: tuple[str, ...] = ()
    columns: Mapping[str, str] = {}
    limit: int = 40

    def __bool__(self) -> bool:
        return bool(self.prompts or self.mention or self.tasks)


def shipped_setups(workshop: Path, seed: int) -> list[SetUp]:
    """Return the runs with the package's own prompts, policy and tasks; their files are written into `workshop`."""
    traps = {"tasks": [f"jsonl:{_write_task(workshop)}"], "interventions": {"file": _write_traps(workshop)}}
    every = {"order": ["pe", "pe2", "ep"], "style": ["chat", "completion"]}
    levels = {"order": ["pe2"], "verbosity": list(LEVELS)}
    replicates = [_own(workshop, name) for name in OWN_LAWS if name.startswith("r")]
    sense: dict[str, Any] = {"tasks": ["sense"]}
    return [
        _setup("every order and style", workshop, seed, [_own(workshop, EXACT)], traps | {"arms": every}, rates=False),
        _setup("known rates", workshop, seed, [f"simulated/{name}" for name in LAWS], sense | {"limit": 60}),
        _setup(
            "levels of verbosity", workshop, seed, [_own(workshop, STEADY), "simulated/drifting"],
            sense | {"limit": 40, "arms": levels},
        ),
        _setup("equal models", workshop, seed, replicates, sense | {"limit": 40}),
    ]  # fmt: skip


def own_setups(workshop: Path, own: Own, seed: int) -> list[SetUp]:
    """Return the runs with the user's own prompts, policy or tasks."""
    changes: dict[str, Any] = {}
    if own.prompts is not None:
        changes["prompts"] = own.prompts
    if own.mention is not None:
        changes["mention"] = own.mention
    orders = {"arms": {"order": ["pe", "pe2", "ep"]}}
    found = []
    if own.prompts is not None or own.mention is not None:
        traps = {"tasks": [f"jsonl:{_write_task(workshop)}"], "interventions": {"file": _write_traps(workshop)}}
        found.append(
            _setup("yours, every order", workshop, seed, [_own(workshop, EXACT)], traps | orders | changes, rates=False)
        )
    tasks: dict[str, Any] = {"tasks": list(own.tasks) or ["sense"], "limit": own.limit}
    if own.columns:
        tasks["columns"] = dict(own.columns)
    models = [_own(workshop, EXACT), "simulated/faithful", "simulated/random"]
    return [*found, _setup("yours, known rates", workshop, seed, models, tasks | changes)]


def law_named(model: str) -> Law:
    """Return the law of a model of these runs."""
    path, mark, name = model.rpartition("#")
    return OWN_LAWS[name] if mark and path else LAWS[name.removeprefix("simulated/")]


def _setup(
    name: str, workshop: Path, seed: int, models: Sequence[str], values: Mapping[str, Any], *, rates: bool = True
) -> SetUp:
    science = {"models": [{"model": model} for model in models], "shams": 0, "seed": seed, **values}
    client = ClientConfig(cache=workshop / "cache", keep_unreadable=True)
    return SetUp(name, build(RunConfig, science, "validate"), client, rates)


def _own(workshop: Path, name: str) -> str:
    path = workshop / "laws.yaml"
    if not path.exists():
        laws = {key: law.model_dump(mode="json", exclude_defaults=True) for key, law in OWN_LAWS.items()}
        path.write_text(json.dumps(laws), encoding="utf-8")  # JSON is YAML
    return f"simulated/{path}#{name}"


def _write_task(workshop: Path) -> Path:
    path = workshop / "validate.jsonl"
    options = {"A": "an animal", "B": "a thing", "C": "neither"}
    rows = [*((text, "C", "It names several.") for text in SENTENCES), *SHOTS]
    lines = [
        {"id": f"v{number:02}", "fields": {"sentence": text}, "options": options, "gold": gold, "explanation": why}
        for number, (text, gold, why) in enumerate(rows, start=1)
    ]
    _write(path, lines)
    return path


def _write_traps(workshop: Path) -> Path:
    path = workshop / "validate.interventions.jsonl"
    lines = [
        {"id": f"v{number:02}.{word}", "example_id": f"v{number:02}", "kind": "planted", "field": "sentence",
         "offset": len(text.rpartition(" ")[0]) + 1, "inserted": word}
        for number, text in enumerate(SENTENCES, start=1)
        for word in TRAPS
    ]  # fmt: skip
    _write(path, lines)
    return path


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
