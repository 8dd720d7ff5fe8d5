"""A planted sweep: 24 models of 8 families and 3 sizes, in a world where faithfulness rises with size and in one not.

Every model changes its answer equally often; what differs is how often its explanation names a word that changed the
answer (its TPR). Half of the families give log-probabilities. There, a word that is named moves the probabilities of an
unchanged answer too, by a `lift` that differs between models, so phi-CCT explains CCT only in part.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from servers import commands as commands_module
from servers.commands import Result, WarmCommands
from servers.planted import Behaviour, PlantedServer
from servers.tables import EAGERNESS, LETTERS, MASS, Arm, Table

World = Literal["rising", "flat"]

FAMILIES = ("ash", "birch", "cedar", "elm", "fir", "larch", "maple", "oak")
SIZES = {"0.1b": 1e8, "1b": 1e9, "10b": 1e10}
BY_SIZE = (0.3, 0.55, 0.8)
"""The TPR of each size in the rising world, from which every family differs by .05, up or down."""
BY_FAMILY = tuple(0.2 + 0.1 * number for number in range(8))
"""The TPR of each family in the flat world, at every size."""
FPR = 0.2
LIFTS = (0.0, 0.5, 0.25, 0.5, 0.25, 0.0, 0.25, 0.5, 0.0, 0.5, 0.0, 0.25)
"""Of the models with log-probabilities, in their order."""
SURE, STILL = 0.9, 0.05
"""The probability of the answer given, and how far an inserted word moves the probabilities that it need not move."""
CONNECTIONS = 4
"""Requests under way at one endpoint; each family has one."""


@dataclass(frozen=True)
class PlantedModel:
    """What is planted of one model. `lift` is None where it gives no log-probabilities."""

    family: str
    size: str
    tpr: float
    lift: float | None

    @property
    def name(self) -> str:
        """Its name in requests."""
        return f"{self.family}-{self.size}"


def plant_models(world: World) -> list[PlantedModel]:
    """The 24 models, family after family."""
    lifts = iter(LIFTS)
    return [
        PlantedModel(
            family,
            size,
            BY_SIZE[step] + 0.05 * (-1) ** number if world == "rising" else BY_FAMILY[number],
            next(lifts) if number % 2 == 0 else None,
        )
        for number, family in enumerate(FAMILIES)
        for step, size in enumerate(SIZES)
    ]


@dataclass(frozen=True)
class SweepTable(Table):
    """The planted truth of a sweep."""

    low_mass: bool = False
    models: Mapping[str, PlantedModel] = field(default_factory=dict)

    def rate(self, model: PlantedModel, level: str, changed: bool) -> float:
        """The probability that the explanation names a word."""
        return min(1.0, (model.tpr if changed else FPR) * EAGERNESS.get(level, 1.0))

    def mention(self, arm: Arm, example: str, word: str) -> str:
        """Whether the explanation names the inserted word, as `word` or `none`."""
        rate = self.rate(self.models[arm.model], arm.level or "normal", self.changed(arm, example, word))
        return "word" if self._draw("mention", arm, example, word, arm.level) < rate else "none"

    def distribution(self, arm: Arm, example: str, word: str | None, visit: int = 1) -> dict[str, float]:
        """Probability of each letter: a changed answer moves .85, an unchanged one STILL and the lift of a mention."""
        label, sure = self.label(arm, example, word, visit), SURE
        if word is not None and not self.changed(arm, example, word):
            named = self.mention(arm, example, word) == "word"
            sure -= STILL + (self.models[arm.model].lift or 0.0) * named
        return {letter: MASS * (sure if letter == label else (1 - sure) / 2) for letter in LETTERS}

    def truth(self, model: PlantedModel, level: str, examples: Sequence[str]) -> tuple[float, float]:
        """phi-CCT and CCT over endlessly many trials of these examples."""
        p = math.fsum(0.65 if self._draw("unstable", example) < 0.5 else 0.25 for example in examples) / len(examples)
        cells = []
        for changed, share in ((True, p), (False, 1 - p)):
            for named in (True, False):
                rate = self.rate(model, level, changed)
                moved = SURE - (1 - SURE) / 2 if changed else STILL + (model.lift or 0.0) * named
                cells.append((share * (rate if named else 1 - rate), float(changed), moved, float(named)))
        return _correlation(cells, 1), _correlation(cells, 2)


def _correlation(cells: Sequence[tuple[float, float, float, float]], column: int) -> float:
    """Pearson's correlation of a column with the last one; the first holds the probabilities."""
    mean, mean_named = (math.fsum(cell[0] * cell[at] for cell in cells) for at in (column, 3))
    both = math.fsum(cell[0] * (cell[column] - mean) * (cell[3] - mean_named) for cell in cells)
    spread = math.fsum(cell[0] * (cell[column] - mean) ** 2 for cell in cells)
    spread_named = math.fsum(cell[0] * (cell[3] - mean_named) ** 2 for cell in cells)
    return both / math.sqrt(spread * spread_named)


@dataclass(frozen=True)
class Size:
    """How large a sweep is: tasks, verbosity levels, examples of each task, inserted words of each example."""

    tasks: int
    levels: tuple[str, ...]
    examples: int
    words: int

    @property
    def requests(self) -> int:
        """Distinct bodies of a whole sweep: every input once for each model, task and level."""
        return len(FAMILIES) * len(SIZES) * self.tasks * len(self.levels) * self.examples * (1 + self.words)


KILLS = (0.3, 0.6)
"""The run is killed once this share of the requests has come in."""


@dataclass
class Sweep:
    """A sweep of one world in an empty directory, with a server of its own."""

    world: World
    size: Size
    directory: Path
    seed: int = 0
    transport: str = "litellm"

    def __post_init__(self) -> None:
        self.models = plant_models(self.world)
        self.table = SweepTable(
            examples=self.size.tasks * self.size.examples,
            words=self.size.words,
            seed=self.seed,
            models={model.name: model for model in self.models},
        )
        silent = {family: "rejected" if number % 4 == 3 else "ignored" for number, family in enumerate(FAMILIES)}
        behaviours = {
            model.name: Behaviour("on" if model.lift is not None else silent[model.family]) for model in self.models
        }
        self.server = PlantedServer(self.table, behaviours, latency=0.01)

    def examples_of(self, task: int) -> list[str]:
        """The examples of a task by its number."""
        return self.table.ids[task * self.size.examples : (task + 1) * self.size.examples]

    def write(self) -> None:
        """Write the sweep file, the tasks and the interventions; the server must be running."""
        rows = self.table.write_task(self.directory / "all.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        for task in range(self.size.tasks):
            start = task * self.size.examples
            text = "".join(rows[start : start + self.size.examples])
            (self.directory / f"task{task}.jsonl").write_text(text, encoding="utf-8")
        self.table.write_interventions(self.directory / "edits.jsonl")
        endpoint = {"base_url": self.server.url, "price": [1, 2], "max_connections": CONNECTIONS}
        document = {
            "tasks": [f"jsonl:task{task}.jsonl" for task in range(self.size.tasks)],
            "interventions": {"file": "edits.jsonl"},
            "arms": {"verbosity": list(self.size.levels)},
            "shams": 0,
            "max_usd": 50,
            "transport": self.transport,
            "endpoints": dict.fromkeys(FAMILIES, endpoint),
            "models": [
                {
                    "model": f"openai/{model.name}",
                    "endpoint": model.family,
                    "family": model.family,
                    "parameters": SIZES[model.size],
                    "tuned": "instruct" if number % 2 else "base",
                    "max_usd": 5,
                }
                for number, model in enumerate(self.models)
            ],
        }
        (self.directory / "sweep.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def bought(self) -> int:
        """How many answers the server has sent so far."""
        return sum(received.answered for received in self.server.received)

    def run(self, commands: WarmCommands) -> tuple[Result, list[int]]:
        """Run the sweep file, killed with SIGKILL at KILLS and continued.

        Returns how the last process ended, and for each kill how many answers were bought and not stored.
        """
        arguments = ("run", "sweep.yaml", "--out", "out", "--json")
        lost: list[int] = []
        for share in KILLS:
            child = commands.start(*arguments, cwd=self.directory)
            self.server.wait_for(int(share * self.size.requests), commands_module.LONGEST)
            child.send(signal.SIGKILL)
            child.finish()
            time.sleep(0.2)  # until the server has read what the dead process had sent
            stored = commands.run("cache", "stats", "--json", cwd=self.directory).document["entries"]
            lost.append(self.bought() - stored - sum(lost))
        return commands.run(*arguments, cwd=self.directory), lost

    def compare(self, commands: WarmCommands) -> dict[str, Any]:
        """The document of `compare --json`."""
        return commands.run("compare", "out", "--json", cwd=self.directory).document


@dataclass(frozen=True)
class Findings:
    """What `compare` says of one verbosity level, beside what was planted there.

    `trend` is that of phi-CCT, over all tasks; `measured` and `planted` hold phi-CCT by model, in the same order.
    `explained` holds for each task the entry on the variance of CCT that phi-CCT explains, and the planted share, both
    over the models with log-probabilities.
    """

    level: str
    trend: Mapping[str, Any]
    measured: Sequence[float]
    planted: Sequence[float]
    explained: Sequence[tuple[Mapping[str, Any], float]]

    @property
    def has_trend(self) -> bool:
        """Whether the interval of the trend excludes 0."""
        return not self.trend["low"] <= 0 <= self.trend["high"]


def read_findings(sweep: Sweep, document: Mapping[str, Any]) -> list[Findings]:
    """One entry for each level of a sweep, from the document of `compare --json`."""
    found = []
    for level in sweep.size.levels:
        primary = [
            (group, family)
            for group in document["groups"]
            for family in group["families"]
            if family["primary"] and family["verbosity"] == level
        ]
        assert len(primary) == 1
        group, family = primary[0]
        rows = [row for row in document["rows"] if row["primary"] and row["verbosity"] == level]
        measured = {row[side].partition("/")[2]: row[f"value_{side}"] for row in rows for side in ("a", "b")}
        truths = [
            {model: sweep.table.truth(model, level, sweep.examples_of(task)) for model in sweep.models}
            for task in range(sweep.size.tasks)
        ]
        planted = [math.fsum(truth[model][0] for truth in truths) / len(truths) for model in sweep.models]
        explained = []
        for task, truth in enumerate(truths):
            graded = [truth[model] for model in sweep.models if model.lift is not None]
            r2 = _correlation([(1 / len(graded), phi, phi, cct) for phi, cct in graded], 1) ** 2
            entry = next(entry for entry in group["explained_variance"] if entry["task"] == f"task{task}")
            explained.append((entry, r2))
        found.append(
            Findings(level, family["trend"], [measured[model.name] for model in sweep.models], planted, explained)
        )
    return found
