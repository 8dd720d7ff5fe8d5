"""Check the instrument on the user's machine: simulated models of known faithfulness through the whole pipeline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from explaineval.archive.bundle import recorded_capabilities
from explaineval.cache import open_store
from explaineval.client.simulated import LAWS, LEVELS, SUGGESTION, Law, Planted, SimulatedModel
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.execution.run import execute
from explaineval.interventions import kind_of
from explaineval.metrics.correlations import phi_values
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.units import walk
from explaineval.records import Condition, MetricRow, Request, Trial
from explaineval.rundir.directory import read_run, read_trials
from explaineval.scoring.registry import FPR, IMPACT_RATE, PHI_CCT, TPR
from explaineval.scoring.rows import Scores
from explaineval.text import interval_text, number_text

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

OWN_SENTENCES = (
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
    rows = [*((text, "C", "It names several.") for text in OWN_SENTENCES), *SHOTS]
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
        for number, text in enumerate(OWN_SENTENCES, start=1)
        for word in TRAPS
    ]  # fmt: skip
    _write(path, lines)
    return path


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


SHOWN = 90
"""Characters of a reply that a finding quotes."""

STEPS = ("answer", "explanation", "mention", "mention_in_reasoning")
"""What is read back, in the order in which it is read."""

PLANTED = (IMPACT_RATE, TPR, FPR, PHI_CCT)
"""The numbers whose true value follows from a law."""

WORST_COVERAGE = 0.001
"""The probability below which so few intervals that hold the truth are no chance."""


class Fault(NamedTuple):
    """One fault: the step at which it happens (`prompts`, one of STEPS, `numbers` or `coverage`), and a sentence."""

    setup: str
    step: str
    text: str


class Number(NamedTuple):
    """One number beside its planted value."""

    condition: Condition
    metric: str
    planted: float
    row: MetricRow

    @property
    def holds(self) -> bool | None:
        """Whether the interval holds the planted value; None where there is no interval."""
        if self.row.low is None or self.row.high is None:
            return None
        return self.row.low <= self.planted <= self.row.high


@dataclass
class Recovered:
    """What one run came to: how many readings and decisions were right, of how many, by step; numbers; findings."""

    setup: str
    trials: int = 0
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STEPS, 0))
    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STEPS, 0))
    numbers: list[Number] = field(default_factory=list)
    findings: list[Fault] = field(default_factory=list)


def recover(setup: SetUp, out: Path) -> Recovered:
    """Run one set-up into the directory `out` and compare everything with what was planted. Raises InputError."""
    prepared = prepare(setup.config, setup.client)
    outcome = execute(prepared, out, lambda _: None, keep=True)
    result = Recovered(setup.name)
    _check_trials(result, prepared, out)
    if not result.findings and setup.rates:
        result.numbers = list(_numbers(outcome.scores))
        result.findings += _implausible(setup.name, result.numbers)
    return result


def _check_trials(result: Recovered, prepared: Prepared, out: Path) -> None:
    requests = _requests(prepared, out)
    wrong: dict[str, list[str]] = {}
    for trial in read_trials(out):
        kind = kind_of(trial.kind)
        if kind.measures_noise or trial.status == "already_in_prompt":
            continue
        result.trials += 1
        trial = trial.turned
        answer = requests.get(trial.key_answer_after or trial.key_after or "")
        explained = requests.get(trial.key_after or "")
        if answer is None or explained is None:
            continue
        model = SimulatedModel(trial.model, law_named(trial.model))
        planted, told = model.answer(answer), model.answer(explained)
        if planted is None or told is None:
            _note(wrong, "prompts", f"the reply is {_quote(model, answer)}")
            continue
        if trial.status == "cue_is_own_answer":
            continue
        asks = {*planted.parts, *told.parts}
        if not {"answer", "explanation"} <= asks:
            lacking = "an answer" if "answer" not in asks else "an explanation"
            _note(wrong, "prompts", f"they ask for no line that is {lacking}; the reply is {_quote(model, explained)}")
            continue
        for step, right, detail in _steps(trial, planted, told):
            result.checked[step] += 1
            result.right[step] += right
            if not right:
                _note(wrong, step, f"{detail}; the reply is {_quote(model, answer if step == 'answer' else explained)}")
    result.findings += [Fault(result.setup, step, _sentence(result, step, cases)) for step, cases in wrong.items()]


def _steps(trial: Trial, planted: Planted, told: Planted) -> Iterator[tuple[str, bool, str]]:
    """Yield each step with whether it came out as planted, and what did not; no later step after a wrong one."""
    yield "answer", trial.label_after == planted.label, f"{planted.label} was given, {trial.label_after} was read"
    if trial.label_after != planted.label:
        return
    same = (trial.explanation or "").split() == told.explanation.split()
    yield "explanation", same, f"read was {_short(trial.explanation)}"
    if not same or trial.status != "ok":
        return
    word = _planted_word(trial)
    if word is None or trial.mentioned is None:
        return
    named = word in told.named
    difference = "was named and not found" if named else "was not named and found"
    yield "mention", trial.mentioned is named, f"{trial.inserted!r} {difference}"
    if planted.reasoned is not None and trial.order != "pe2" and "mentioned_reasoning" in Trial.model_fields:
        yield from _reasoning_step(trial, word, planted.reasoned)


def _reasoning_step(trial: Trial, word: str, reasoned: Sequence[str]) -> Iterator[tuple[str, bool, str]]:
    decided = getattr(trial, "mentioned_reasoning", None)
    yield "mention_in_reasoning", decided is (word in reasoned), f"{trial.inserted!r} in the reasoning"


def _planted_word(trial: Trial) -> str | None:
    """Return what the law may name of an insertion: its one word, or the suggestion; None for anything else."""
    kind = kind_of(trial.kind)
    if kind.cue is not None:
        return SUGGESTION
    word = (trial.inserted or "").lower()
    return word if word.isalpha() else None


def _requests(prepared: Prepared, out: Path) -> dict[str, Request]:
    """Return the requests of a run by key, as its plan builds them."""
    recorded = recorded_capabilities(read_run(out))
    with open_store(prepared.client.cache, readonly=True) as store:
        steps = walk(
            prepared, lambda model, arm: recorded.get((model.endpoint, model.model, arm.style)), store.get
        )  # fmt: skip
        return {step.key: step.request for step in steps}


def _note(wrong: dict[str, list[str]], step: str, case: str) -> None:
    wrong.setdefault(step, []).append(case)


SENTENCES: Mapping[str, str] = {
    "prompts": "The prompts lose what is asked for in {count} of {all} trials: {case}.",
    "answer": "Answers are not read as they were given, in {count} of {all}: {case}.",
    "explanation": "Explanations are not read as they were given, in {count} of {all}: {case}.",
    "mention": "Mentions are not decided as planted, in {count} of {all}: {case}.",
    "mention_in_reasoning": "Mentions in the reasoning are not decided as planted, in {count} of {all}: {case}.",
}


def _sentence(result: Recovered, step: str, cases: Sequence[str]) -> str:
    total = result.trials if step == "prompts" else result.checked[step]
    return SENTENCES[step].format(count=len(cases), all=total, case=cases[0])


def _quote(model: SimulatedModel, request: Request) -> str:
    return _short(model.complete(request).text)


def _short(text: str | None) -> str:
    flat = " / ".join((text or "nothing").split("\n"))
    return repr(flat if len(flat) <= SHOWN else f"{flat[: SHOWN - 1]}…")


def planted_value(law: Law, metric: str, verbosity: str) -> float:
    """Return the true value of a metric under a law at a level of verbosity."""
    eagerness = LEVELS[verbosity]
    p, tpr, fpr = law.impact, law.rate(True, eagerness), law.rate(False, eagerness)
    if metric == PHI_CCT:
        import numpy as np

        table = np.array([[p * tpr, p * (1 - tpr), (1 - p) * fpr, (1 - p) * (1 - fpr)]])
        return float(phi_values(table)[0])
    return {IMPACT_RATE: p, TPR: tpr, FPR: fpr}[metric]


def _numbers(scores: Scores) -> Iterator[Number]:
    for row in scores.headline.rows:
        if row.metric in PLANTED and row.verbosity in LEVELS and row.task != "mean" and row.kind is not None:
            if kind_of(row.kind).cue is not None:
                continue
            planted = planted_value(law_named(row.model), row.metric, row.verbosity)
            yield Number(row.condition, row.metric, planted, row)


def _implausible(setup: str, numbers: Sequence[Number]) -> Iterator[Fault]:
    """Name numbers that are undefined or whose intervals miss the truth more often than chance allows."""
    decided = [number for number in numbers if number.holds is not None]
    held = sum(bool(number.holds) for number in decided)
    if numbers and not decided:
        yield Fault(setup, "numbers", f"Not one number has an interval: {numbers[0].row.undefined or 'too few'}.")
    elif decided and chance(held, len(decided)) < WORST_COVERAGE:
        miss = next(number for number in decided if not number.holds)
        text = (
            f"{len(decided) - held} of {len(decided)} intervals do not hold the planted value, such as {miss.metric} "
            f"of {short_model(miss.condition.model)}: planted {number_text(miss.planted)}, measured "
            f"{number_text(miss.row.value)} "
            f"{interval_text(miss.row.low, miss.row.high)}."
        )
        yield Fault(setup, "coverage" if len(decided) > REPLICATES else "numbers", text)


def chance(held: int, total: int) -> float:
    """Return how likely at most `held` of `total` intervals hold the truth if each does with probability 0.95."""
    return math.fsum(math.comb(total, k) * 0.95**k * 0.05 ** (total - k) for k in range(held + 1))


def short_model(model: str) -> str:
    """Return a model's name without the path of its file of laws."""
    path, mark, name = model.rpartition("#")
    return f"simulated/{name}" if mark and path else model
