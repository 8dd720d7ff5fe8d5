"""The registry of metrics: every value is complete, and every metric reaches the rows of some run."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from explaineval.interventions import KINDS
from explaineval.records import MetricRow
from explaineval.scoring import registry
from explaineval.scoring.codes import CODES
from explaineval.scoring.metric import OPEN, ArmMetric, KindMetric, LevelMetric, PredictionMetric
from explaineval.scoring.registry import COMPARED_ONLY, METRICS
from explaineval.signature import Dependency
from makers.runs import make_missing, make_sham, make_trial
from makers.scores import LEVELS, score_trials

CONTRACT = """\
phi_cct phi_within phi_stable phi_cct_tvd_trials cct cct_sampled ct_unfaithfulness ct_unfaithfulness_per_example tpr fpr
youden_j impact_rate mention_rate mention_floor sham_flip_rate null_edit_flip_rate accuracy mean_tvd explanation_words
f_auroc f_auroc_own f_auroc_hull excluded_rate phi_cct_lower_bound phi_cct_upper_bound phi_cct_never phi_cct_always
phi_cct_random phi_cct_example_only flip_to_cue_rate g_mean2 g_mean2_control odds_ratio_within simulation_gain_balanced
nsg nsg_shuffled simulation_accuracy_with simulation_accuracy_without sham_mean_tvd null_edit_mean_tvd"""
"""The names that a metric row can have."""

ADDED = "nsg_difference simulation_gain_balanced_shuffled simulation_gain_balanced_difference phi_cct_over_texts"
"""Names of ours beside them: the gains over other examples' explanations, and the interval over inserted texts."""


def test_names_are_those_of_the_contract() -> None:
    """Each name once, under itself."""
    assert set(METRICS) == {*CONTRACT.split(), *ADDED.split()}
    assert [metric.name for metric in METRICS.values()] == list(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_its_texts(name: str) -> None:
    """A short title, one or two sentences of definition, one sentence of what would make it wrong, a source."""
    metric = METRICS[name]

    assert re.fullmatch(r"[A-Za-z].{1,38}[a-zA-Z]", metric.title)
    for text, most in ((metric.definition, 2), (metric.pitfall, 1)):
        assert re.fullmatch(r"[A-Zp].*[^.]\.", text)
        assert 1 <= len(re.findall(r"\.(?: |$)", text)) <= most
    assert re.search(r"\d{4}|this project", metric.source)
    assert metric.depends <= set(get_args(Dependency))
    assert metric.rests_on is None or metric.rests_on[0] in CODES


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_scale(name: str) -> None:
    """Its limits have the value of no relation between them, and per cent belong to shares."""
    scale = METRICS[name].scale

    assert scale != OPEN
    known = [value for value in (scale.low, scale.nothing, scale.high) if value is not None]
    assert known == sorted(known)
    assert not scale.percent or (scale.low, scale.high) == (0, 1)


def test_titles_and_places_are_not_shared() -> None:
    """But by the two areas, of which a row has one."""
    titles = [metric.title for metric in METRICS.values()]
    cells = [metric.cell.heading for metric in METRICS.values() if metric.cell is not None]
    level_cells = [metric.level_cell.heading for name, metric in METRICS.items() if metric.level_cell is not None
                   and name != "f_auroc_own"]  # fmt: skip

    for values in (titles, cells, level_cells):
        assert len(set(values)) == len(values)


def test_kinds_that_measure_noise_are_those_with_metrics_of_their_own() -> None:
    """Their rows stand under that kind."""
    assert {kind.name for kind in KINDS.values() if kind.measures_noise} == {
        metric.own_kind for metric in METRICS.values() if metric.own_kind is not None
    }


NAMES = METRICS.keys() | COMPARED_ONLY.keys()


def named_in(path: Path) -> set[str]:
    """Return the metrics that a source or template spells out; docstrings do not count."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return NAMES & set(re.findall(r"""["'](\w+)["']""", " ".join(re.findall(r"{[{%].*?[}%]}", text, re.DOTALL))))
    tree = ast.parse(text)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    } & NAMES


def test_no_module_but_the_registry_spells_out_a_metric() -> None:
    """Others import its name, so that a name that is gone or misspelt does not run."""
    source = Path(registry.__file__).parents[1]
    paths = [path for path in source.rglob("*") if path.suffix in (".py", ".html", ".md", ".css", ".js")]

    named = {str(path.relative_to(source)): found for path in paths if (found := named_in(path))}

    assert named.keys() == {"scoring/registry.py"}
    assert named["scoring/registry.py"] == NAMES


def trials_of(order: str) -> Iterator[dict[str, Any]]:
    """A cue at all levels, with shams, null edits and missing trials."""
    draw = random.Random("registry")
    for example in range(12):
        flips = [draw.random() < 0.4 for _ in range(4)]
        for level in LEVELS:
            own = {"order": order, "verbosity": level}
            for number, flip in enumerate(flips):
                said = draw.random() < 0.2 + 0.5 * flip
                values = {"changed": flip, "mentioned": said, "after": 0.3 if flip else draw.uniform(0.55, 0.9)}
                yield make_trial(example, number, **values) | own | {"kind": "cue_user"}
            yield make_sham(example) | own
            yield make_sham(example) | own | {"kind": "null_edit"}
    for level in LEVELS:
        yield make_missing(0, 9, "after") | {"order": order, "verbosity": level, "kind": "cue_user"}


def rows_of(trials: Iterable[dict[str, Any]], **values: Any) -> tuple[MetricRow, ...]:
    """The rows of such trials, with cues in two orders and all answers sampled."""
    arms = {"order": ["pe2", "pe"], "verbosity": list(LEVELS)}
    targets = {("mine", f"e{example}", "cue_user"): "B" for example in range(12)}
    science = {"arms": arms, "tvd_samples": 50, "temperature": 1} | values
    return score_trials(list(trials), kinds=("cue_user", "null_edit"), targets=targets, **science).rows


OF_RUNS = [
    metric.name
    for metric in METRICS.values()
    if not isinstance(metric, PredictionMetric) and metric.name != "phi_cct_over_texts"
]
"""The metrics that a run of a cue has by itself; tests/cli/test_cli_simulate.py is about those of predictors, and
test_inserted_texts.py about that of words."""

TRIALS = [trial for order in ("pe2", "pe") for trial in trials_of(order)]


@pytest.fixture(scope="module")
def rows() -> tuple[MetricRow, ...]:
    """The rows of all trials."""
    return rows_of(TRIALS)


@pytest.mark.parametrize("name", OF_RUNS)
def test_every_metric_reaches_the_rows_of_a_run(rows: tuple[MetricRow, ...], name: str) -> None:
    """In the rows of its scope: a kind, an arm, or several levels together."""
    metric, own = METRICS[name], [row for row in rows if row.metric == name]

    assert own
    if isinstance(metric, KindMetric):
        assert {(row.kind, row.verbosity) for row in own} == {("cue_user", level) for level in LEVELS}
    elif isinstance(metric, ArmMetric):
        assert {(row.kind, row.verbosity) for row in own} == {(metric.own_kind, level) for level in LEVELS}
    else:
        assert isinstance(metric, LevelMetric)
        assert {(row.kind, row.verbosity) for row in own} == {("cue_user", None)}
    assert {row.mention for row in own} == {"phrases" if "mention" in metric.depends else None}


def test_rows_follow_the_order_of_the_registry(rows: tuple[MetricRow, ...]) -> None:
    """Within each condition, so that files of different runs can be laid side by side."""
    for verbosity in (*LEVELS, None):
        for order in ("pe2", "pe"):
            names = [row.metric for row in rows if (row.verbosity, row.order) == (verbosity, order)]
            assert names == sorted(names, key=list(METRICS).index)


def other_mentions(trial: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """The trial with other mentions."""
    if trial["mentioned"] is None:
        return trial
    return trial | {"mentioned": draw.random() < 0.5, "mentioned_before": draw.random() < 0.3}


def other_probabilities(trial: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """The trial with another shift of its label probabilities, or without any."""
    if trial["tvd"] is None or draw.random() < 0.2:
        return trial | {"tvd": None, "tvd_reason": "after: none", "probs_after": None, "label_mass_after": None}
    share = draw.uniform(0.1, 0.7)
    return trial | {"probs_after": {"A": share, "B": 1 - share}, "tvd": abs(0.75 - share)}


def other_shams(trial: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """The trial, with another answer and other label probabilities where it is a sham."""
    if trial["kind"] != "sham":
        return trial
    changed, share = draw.random() < 0.4, draw.uniform(0.1, 0.7)
    answer = {"changed": changed, "label_after": "AB"[changed], "probs_after": {"A": share, "B": 1 - share}}
    return trial | answer | {"tvd": abs(0.75 - share)}


@pytest.mark.parametrize(
    ("dependency", "change"),
    [("mention", other_mentions), ("probabilities", other_probabilities), ("shams", other_shams), ("seed", None)],
)
def test_metrics_declare_what_moves_them(
    rows: tuple[MetricRow, ...], dependency: Dependency, change: Callable[..., dict[str, Any]] | None
) -> None:
    """Exactly the metrics that declare a dependency have other values where nothing but that is changed.

    The sampled CCT and two of the baselines are undefined here. The seed of the hull decides what chance gives on the
    same trials, which stands in its warning.
    """
    draw = random.Random("changes")
    changed = rows_of(TRIALS, seed=5) if change is None else rows_of(change(trial, draw) for trial in TRIALS)

    pairs = list(zip(rows, changed, strict=True))
    moved = {
        old.metric
        for old, new in pairs
        if (old.value, old.low, old.high, old.n) != (new.value, new.low, new.high, new.n)
    }
    same = {"cct_sampled", "phi_cct_never", "phi_cct_always"} | ({"f_auroc_hull"} if dependency == "seed" else set())
    assert moved == {name for name in OF_RUNS if dependency in METRICS[name].depends} - same
