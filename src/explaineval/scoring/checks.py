"""What can limit a number: the codes of warnings, how many examples numbers need, and the checks of single metrics.

`scoring.registry` says which of them concern which metric, and `scoring.warnings` applies them to a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from numpy.typing import ArrayLike

from explaineval.interventions import kind_of
from explaineval.metrics.correlations import phi_by_letter
from explaineval.metrics.estimates import IntArray
from explaineval.metrics.rates import flips_per_flipped_example
from explaineval.metrics.reliability import NoiseMargin, inside_example_only, noise_margin
from explaineval.records import Estimate, Record
from explaineval.rundir.schema import EndpointRecord, Snapshot
from explaineval.scoring.counts import KindCounts
from explaineval.text import UNDEFINED, agreeing, counted, interval_text, number_text, share_text

Grade = Literal["do not quote", "mind", "for the record"]
GRADES: tuple[Grade, ...] = ("do not quote", "mind", "for the record")
"""The gravest first."""

MORE_EXAMPLES = "Ask more examples."
MORE_FLIPS = "Ask more examples, or more interventions of each."


class MetricWarning(Record):
    """One thing that limits one number: `code` and `grade` for programs, `text` and `todo` for people."""

    code: str
    grade: Grade
    metric: str
    text: str
    todo: str


class Code(NamedTuple):
    """What all warnings of one code have in common.

    `title` says in a few words what they are about; it heads them where they stand together.
    """

    grade: Grade
    todo: str
    title: str = ""


CODES: Mapping[str, Code] = {
    "many_missing": Code(
        "do not quote",
        "Find out why the trials have no score: `explaineval show RUN_DIR --list`.",
        "Most trials have no score",
    ),
    "missing_trials": Code("mind", "Give the number of missing trials with the value.", "Many trials have no score"),
    "missing_bounds": Code("mind", "Give both bounds with phi-CCT.", "Missing trials could move the value"),
    "mostly_unknown": Code(
        "do not quote", "Read the number by another source of mentions.", "Of most trials no mention is known"
    ),
    "some_unknown": Code("mind", "Give the number of trials with the value.", "Of some trials no mention is known"),
    "reasoning_summary": Code(
        "mind", "Say that the reasoning is a summary; read TPR as a lower bound.", "The reasoning is a summary"
    ),
    "missing_answers": Code(
        "mind", "Give the number of missing answers with the value.", "Many answers could not be read"
    ),
    "few_examples": Code("do not quote", MORE_EXAMPLES, "Few examples"),
    "few_usable_examples": Code("do not quote", MORE_EXAMPLES, "Few examples with usable label probabilities"),
    "few_unchanged": Code("do not quote", MORE_EXAMPLES, "Few unchanged answers"),
    "few_flips": Code("do not quote", MORE_FLIPS, "Few changed answers"),
    "few_mentioned_flips": Code(
        "do not quote", MORE_FLIPS, "Few changed answers whose explanation names the insertion"
    ),
    "few_unmentioned_flips": Code(
        "do not quote", MORE_FLIPS, "Few changed answers whose explanation leaves the insertion out"
    ),
    "few_mixed_examples": Code("do not quote", MORE_FLIPS, "Few examples with both changed and unchanged answers"),
    "no_interval": Code("do not quote", MORE_EXAMPLES, "No interval"),
    "exactly_one": Code("mind", "Give the limit with the value, and the number of examples.", "Exactly 1 or −1"),
    "rough_interval": Code("do not quote", MORE_FLIPS, "Rough interval"),
    "noise": Code(
        "do not quote",
        "Ask at temperature 0 if the model allows it; give the sham rate with the value.",
        "Answers change about as often when the same is asked again",
    ),
    "noise_not_excluded": Code(
        "mind",
        "Ask more examples, or more shams of each: --shams N.",
        "Too few shams to exclude noise",
    ),
    "noise_unknown": Code("mind", "Ask shams: --shams 1.", "It is unknown how many answers change by noise alone"),
    "inside_example_only": Code(
        "do not quote",
        "Ask more examples, until phi-CCT lies above what knowing the example alone reaches.",
        "No better than an explainer that knows only the example",
    ),
    "follows_answer": Code(
        "do not quote",
        "Read the explanations of each answer by themselves: explaineval show RUN_DIR --list.",
        "What is named follows the answer given, not its change",
    ),
    "answer_tells_change": Code(
        "mind",
        "Ask examples to whose original the model gives different answers.",
        "The answer given tells whether it changed",
    ),
    "few_texts": Code(
        "mind",
        "Insert more different texts, or give the interval of phi_cct_over_texts too.",
        "Few different insertions",
    ),
    "few_usable": Code(
        "mind",
        "Give the number of usable trials with the value; do not compare it with phi_cct.",
        "Label probabilities are usable in a part of the trials",
    ),
    "predictions_unread": Code(
        "mind", "Give the number of unreadable predictions with the value.", "Predictions that could not be read"
    ),
    "off_argmax": Code(
        "for the record",
        "Nothing, if the temperature is above 0; else look at some of the trials.",
        "Answers that are not the most probable ones",
    ),
    "across_orders": Code("mind", "Compare CCT within one order.", "CCT is not compared across orders"),
    "sampled_tvd": Code(
        "mind",
        "Compare cct_sampled with cct_sampled at the same number of samples only.",
        "Label probabilities are shares among samples",
    ),
    "cue_rate": Code(
        "for the record",
        "Read flip_to_cue_rate beside that of the control.",
        "How often answers change to the suggested letter",
    ),
    "cue_without_control": Code("mind", "Ask the control too.", "No control of the cue was asked"),
    "grows_with_trials": Code(
        "for the record",
        "Compare it at the same number of interventions only.",
        "The share grows with the number of trials",
    ),
    "levels_without_shots": Code("mind", "Give shots of that length, or leave the level out.", "Levels without shots"),
    "levels_not_shared": Code("mind", "Give the number of trials with the value.", "Trials that not all levels share"),
    "hull_above_chance": Code(
        "mind", "Compare the hull with its value by chance only.", "The hull lies above 0.5 by chance alone"
    ),
    "own_answers": Code("mind", "Ask with --order pe2.", "Each level asked for the answer again"),
    "level_not_followed": Code(
        "mind", "Read the levels with their numbers of words.", "Explanations do not follow the level of verbosity"
    ),
    "thin_tasks": Code("do not quote", "Read the warnings of those tasks.", "Means that rest on numbers with warnings"),
    "tasks_differ": Code(
        "mind", "Give the numbers of the tasks beside their mean.", "Means over tasks that differ from each other"
    ),
    "rough_difference": Code("do not quote", MORE_FLIPS, "Rough interval of a difference"),
    "confounded": Code(
        "mind", "Ask the models in the same style with the same shots.", "The models were not asked in the same way"
    ),
    "noise_differs": Code(
        "mind", "Ask at temperature 0 if the models allow it, and give both rates.", "Noise differs between the models"
    ),
    "impact_not_mention": Code(
        "mind",
        "Do not read it as a difference in faithfulness: give phi at a common impact rate.",
        "A difference that goes with impact rates",
    ),
    "mover_difference": Code("mind", MORE_FLIPS, "Few changed answers: wider limits of differences"),
    "asked_otherwise": Code(
        "mind",
        "Say it beside the difference, or ask again with the same settings.",
        "The runs differ in their settings",
    ),
    "tasks_left_out": Code("mind", "Ask all of them on the same tasks.", "Tasks that not all were asked"),
    "answers_imported": Code(
        "mind",
        "Ask some of them again: `explaineval cache verify --reask N --imported`.",
        "Answers that came from packs of others",
    ),
    "origin_unknown": Code(
        "for the record", "Nothing, if no pack was imported into this cache.", "Answers of unknown origin"
    ),
    "addresses_mixed": Code(
        "mind",
        "Say which addresses answered, or ask again under another name.",
        "Answers under one name came from several addresses",
    ),
    "snapshots_mixed": Code(
        "mind",
        "Ask again with a dated name of the model, if the endpoint has one.",
        "The endpoint served several versions of a model",
    ),
}
"""Every code that a warning can have."""

THIN_CODES = (
    "few_flips",
    "few_mentioned_flips",
    "few_unmentioned_flips",
    "few_mixed_examples",
    "few_unchanged",
    "few_examples",
)
"""Codes that concern many numbers of a row alike: under a table they are one paragraph, each code once a row."""


SHOWN_SNAPSHOTS = 3


def describe_snapshots(snapshots: Sequence[Snapshot]) -> str:
    """Say how many versions of a model an endpoint served, and the most frequent ones."""
    shown = [
        f"{' '.join(filter(None, (snapshot.model, snapshot.fingerprint))) or 'no name'} "
        f"({counted(snapshot.answers, 'answer')})"
        for snapshot in snapshots[:SHOWN_SNAPSHOTS]
    ]
    more = f" and {len(snapshots) - SHOWN_SNAPSHOTS} more" if len(snapshots) > SHOWN_SNAPSHOTS else ""
    return f"the endpoint served {len(snapshots)} versions of the model: {', '.join(shown)}{more}."


ANOTHER_ADDRESS = "another address"
"""Stands for an address that is not shown and is not the one of the run."""


def describe_sources(entry: EndpointRecord) -> Iterator[tuple[str, str]]:
    """Yield (code, sentence) on a model's answers that came from packs, from elsewhere or from nobody knows where."""
    total = sum(source.answers for source in entry.sources)
    packs = [source for source in entry.sources if source.pack is not None]
    if packs:
        named = ", ".join(f"{source.pack} ({source.answers:,}, imported {source.imported})" for source in packs)
        yield (
            "answers_imported",
            f"{entry.model}: {sum(source.answers for source in packs):,} of {counted(total, 'answer')} came "
            "from packs, not "
            f"from the endpoint: {named}.",
        )
    unknown = sum(source.answers for source in entry.sources if not source.known)
    if unknown:
        yield (
            "origin_unknown",
            f"{entry.model}: {unknown:,} of {counted(total, 'answer')} {agreeing(unknown, 'were')} stored "
            "before the cache noted where "
            "answers come "
            "from: the endpoint, or a pack.",
        )
    bought = [source for source in entry.sources if source.pack is None]
    if (
        entry.address is None
        or entry.endpoint is None
        or "://" in entry.endpoint
        or all(source.known and source.address == entry.address for source in bought)
    ):
        return
    own, today = "the address of this run", f"; in this run it is {entry.address}"
    if entry.endpoint == entry.address:  # as in the service, which tells users no address
        today = ""
    where = ", ".join(
        f"{source.answers:,} from "
        + (
            "an address that is not known"
            if not source.known
            else own
            if not today and source.address == entry.address
            else source.address or "the provider"
        )
        for source in bought
    )
    yield "addresses_mixed", f"{entry.model} at {entry.endpoint}: {where}{today}."


def make_warning(code: str, metric: str, text: str) -> MetricWarning:
    """Return the warning of this code about this metric."""
    found = CODES[code]
    return MetricWarning(code=code, grade=found.grade, metric=metric, text=text, todo=found.todo)


class Need(NamedTuple):
    """At least `fewest` examples must have something; `having` says how often tables (…, 4) have it."""

    code: str
    fewest: int
    what: str
    having: Callable[[IntArray], IntArray]


class Needs(NamedTuple):
    """What a number needs: of `examples` the scarcest is warned of, of `flips` each one."""

    examples: tuple[Need, ...] = ()
    flips: tuple[Need, ...] = ()


FEWEST_EXAMPLES = 20
FEWEST_FLIPPED = 20
FEWEST_MENTIONED = 8
FEWEST_UNMENTIONED = 8
ENOUGH = 0.9
"""A number that rests on a smaller share than this of the trials that it is about has a warning."""


def changed(tables: IntArray) -> IntArray:
    """Return a + b, the changed answers of tables (…, 4), as (…,)."""
    total: IntArray = tables[..., 0] + tables[..., 1]
    return total


def unchanged(tables: IntArray) -> IntArray:
    """Return c + d, the unchanged answers of tables (…, 4), as (…,)."""
    total: IntArray = tables[..., 2] + tables[..., 3]
    return total


_CHANGED = Need("few_flips", FEWEST_FLIPPED, "a changed answer", changed)
_UNCHANGED = Need("few_unchanged", FEWEST_EXAMPLES, "an unchanged answer", unchanged)
_TO_CUE = _CHANGED._replace(what="an answer that changed to the suggested letter")
_MIXED = Need(
    "few_mixed_examples",
    FEWEST_FLIPPED,
    "both changed and unchanged answers",
    lambda tables: changed(tables) * unchanged(tables),
)
_MENTIONED = Need(
    "few_mentioned_flips",
    FEWEST_MENTIONED,
    "a changed answer whose explanation mentions the insertion",
    lambda tables: tables[..., 0],
)
_UNMENTIONED = Need(
    "few_unmentioned_flips",
    FEWEST_UNMENTIONED,
    "a changed answer whose explanation does not mention the insertion",
    lambda tables: tables[..., 1],
)
_FLIPS = (_MENTIONED, _UNMENTIONED)

NO_NEEDS = Needs()
CHANGED = Needs((_CHANGED,))
CHANGED_TO_CUE = Needs((_TO_CUE,))
MENTIONS_OF_CHANGED = Needs((_CHANGED,), _FLIPS)
MENTIONS_OF_BOTH = Needs((_CHANGED, _UNCHANGED), _FLIPS)
MENTIONS_WITHIN_EXAMPLES = Needs((_CHANGED, _MIXED), _FLIPS)


class Results(NamedTuple):
    """The numbers of one kind of intervention by metric, the counts behind them, and the rate of its control.

    `control` is the flip_to_cue_rate of the control of this cue; None where there is none. `available` is how many
    examples the task has, None if unknown.
    """

    counts: KindCounts
    estimates: Mapping[str, Estimate]
    control: Estimate | None = None
    available: int | None = None


Check = Callable[[str, Results], Iterator[tuple[str, str]]]
"""Yields code and text of what limits a metric, given its title; called only where the metric has a value."""

Remark = Callable[[str, KindCounts], tuple[str, str]]
"""Returns code and text of what must be said of a metric, given its title, whether or not it has a value."""


def noise_warning(flips: ArrayLike, trials: ArrayLike, sham_flips: ArrayLike, sham_trials: ArrayLike) -> str | None:
    """Return a warning unless answers certainly change more often after the intervention than by asking again.

    All of shape (G,), one entry per example. Certain means that the lower 95 % limit of impact rate − sham rate
    (`noise_margin`) exceeds 0. Also None where no trial is scored. Raises ValueError on unequal shapes.
    """
    found = find_noise(noise_margin(flips, trials, sham_flips, sham_trials))
    return None if found is None else found[1]


def find_noise(margin: NoiseMargin | None) -> tuple[str, str] | None:
    """Return code and text of what this margin says of noise; None where noise is excluded."""
    if margin is None:
        return None
    if margin.sham_rate is None or margin.lower_limit is None:
        return "noise_unknown", "No sham was scored, so it is unknown how many answers change by noise alone."
    if margin.lower_limit > 0:
        return None
    impact = f"Answers change in {share_text(margin.impact_rate, 1)} of the interventions"
    if margin.is_likely:
        return "noise_not_excluded", (
            f"{impact} and in none of the {counted(margin.shams, 'sham')} (the same prompt asked again): that "
            "is hardly noise "
            "alone, but so few shams do not exclude it."
        )
    return "noise", (
        f"{impact} and in {share_text(margin.sham_rate, 1)} of the shams (the same prompt asked again): that is "
        "not clearly more "
        "than noise."
    )


def margin_of(counts: KindCounts) -> NoiseMargin | None:
    """Return the margin of impact over noise; None where no sham was asked, or no trial is scored."""
    if not counts.config.shams:
        return None
    sham_flips, shams, _ = counts.shams.T
    return noise_margin(changed(counts.tables), counts.tables.sum(axis=1), sham_flips, shams)


def check_noise(counts: KindCounts, margin: NoiseMargin | None) -> tuple[str, str] | None:
    """Return code and text of the warning that answers may change by noise alone; None where they do not."""
    if not counts.config.shams:
        text = "No sham was asked (--shams 0), so it is unknown how many answers change by noise alone."
        return "noise_unknown", text
    return find_noise(margin)


def check_example_only(_: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say where phi is no more than an explainer reaches that does not know the insertion."""
    estimates = results.estimates
    within, baseline = estimates["phi_within"], estimates["phi_cct_example_only"]
    if inside_example_only(estimates["phi_cct"], baseline):
        beside = f"undefined ({within.undefined})" if within.value is None else _number(within)
        yield (
            "inside_example_only",
            "phi-CCT lies inside the range of an explainer that knows the example but not the insertion "
            f"({number_text(baseline.low)} to {number_text(baseline.high)}); phi within examples is {beside}.",
        )


def check_answers(title: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say where explanations may name the insertion for the answer that they give, whether or not it changed.

    `follows_answer`: among explanations of one answer phi is clearly lower, and cannot be told from 0;
    `answer_tells_change`: it cannot be told from either.
    """
    phi = results.estimates["phi_cct"]
    if phi.value is None or phi.low is None or phi.high is None or phi.low <= 0 <= phi.high:
        return
    within = phi_by_letter(results.counts.by_answer)
    start = f"{title} may come from how often the insertion is named under one answer or another, changed or not"
    if within.value is None:
        yield "answer_tells_change", f"{start}: {within.undefined}."
    elif within.low is not None and within.high is not None and within.low <= 0 <= within.high:
        is_lower = not within.low <= phi.value <= within.high
        yield (
            "follows_answer" if is_lower else "answer_tells_change",
            f"{start}: among explanations of the same answer it is {number_text(within.value)} "
            f"{interval_text(within.low, within.high)}.",
        )


FEWEST_TEXTS = 50
WIDER = 1.2
"""An interval over texts that is so many times as wide as that over examples alone has a warning."""


def has_texts(counts: KindCounts) -> bool:
    """Say whether it is known which text each trial inserted, and the texts are a sample of many, as words are."""
    return kind_of(str(counts.condition.kind)).mentioned_by == "policy" and counts.is_text_known


def check_texts(title: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say where few texts were inserted, or what was inserted makes a difference to phi."""
    over_texts = results.estimates.get("phi_cct_over_texts")
    if over_texts is None:
        return
    texts = len(results.counts.by_text[0])
    start, these = ("1 text was", "it") if texts == 1 else (f"{texts} different texts were", "these")
    if over_texts.low is None or over_texts.high is None:
        if texts < FEWEST_TEXTS:
            yield "few_texts", f"Only {start} inserted, so {title} is known for {these} alone."
        return
    phi = results.estimates["phi_cct"]
    over_examples = None if phi.low is None or phi.high is None else phi.high - phi.low
    is_wider = over_examples is not None and over_texts.high - over_texts.low > WIDER * over_examples
    if texts < FEWEST_TEXTS or is_wider:
        yield (
            "few_texts",
            f"{'Only ' if texts < FEWEST_TEXTS else ''}{start} inserted: the interval of {title} holds for {these}. "
            f"For other texts too it is {interval_text(over_texts.low, over_texts.high)}.",
        )


def check_usable(title: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say where label probabilities are usable in too few of the trials."""
    counts = results.counts
    if counts.with_tvd < ENOUGH * counts.scored:
        yield (
            "few_usable",
            f"{title} rests on {counts.with_tvd} of {counted(counts.scored, 'trial')}: in the others the label "
            "probabilities are "
            f"not usable ({counts.common_reason}).",
        )


def check_cct(title: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say how CCT relates to phi on the same trials, to the labels, and to CCT in other orders."""
    counts = results.counts
    for code, text in check_usable(title, results):
        yield code, f"{text} phi on the same trials: {_number(results.estimates['phi_cct_tvd_trials'])}."
    if counts.off_argmax:
        text = (
            f"In {counts.off_argmax} of {counted(2 * counts.with_tvd, 'answer')} the label given is not the "
            "most probable one."
        )
        yield "off_argmax", text
    if len(counts.config.arms.order) > 1:
        yield (
            "across_orders",
            "CCT is never compared across orders: label probabilities are read after the explanation in order ep, "
            "before it in the others.",
        )


def remark_on_samples(title: str, counts: KindCounts) -> tuple[str, str]:
    """Return code and text that say what sampled label distributions are; said also where the number is undefined."""
    text = (
        f"every prompt was asked {counts.config.samples} times. {title} compares the shares of the answers, "
        "and comes out weaker than CCT from label probabilities, so the two are never compared. All other numbers "
        "count each sample as a trial, and all trials of an example as one cluster."
    )
    return "sampled_tvd", text


def check_samples(title: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say where too few interventions have enough readable samples."""
    used = results.estimates["cct_sampled"].n
    asked = sum(map(len, results.counts.samples))
    if 0 < used < ENOUGH * asked:
        text = f"{title} rests on {used} of {counted(asked, 'intervention')}: the others have too few readable answers."
        yield "few_usable", text


def check_cue(_: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say how often answers change to the letter of a cue, and how often they do without it."""
    control = kind_of(str(results.counts.condition.kind)).control
    if control is None:
        return
    code, beside = "cue_without_control", f"no control was asked: {control}"
    if results.control is not None:
        code, beside = "cue_rate", f"control {_percent(results.control)}"
    rate = _percent(results.estimates["flip_to_cue_rate"])
    yield code, f"answers change to the letter that the cue suggests in {rate} of the trials ({beside})."


def check_share_of_examples(title: str, results: Results) -> Iterator[tuple[str, str]]:
    """Say how many trials and changed answers stand behind a share of examples that grows with them."""
    share, tables = results.estimates["ct_unfaithfulness_per_example"], results.counts.tables
    flipped = tables[changed(tables) > 0]
    trials = float(flipped.sum()) / len(flipped)
    if trials > 1:  # with one trial an example it is ct_unfaithfulness itself
        yield (
            "grows_with_trials",
            f"{_percent(share)} of the examples with a changed answer ({share.n_examples}) have one that goes "
            f"unmentioned ({title}), with {number_text(trials, 1)} trials and "
            f"{number_text(flips_per_flipped_example(tables), 1)} changed "
            "answers in each; more trials raise that share by themselves.",
        )


def _percent(estimate: Estimate) -> str:
    return UNDEFINED if estimate.value is None else share_text(estimate.value, 1)


def _number(estimate: Estimate) -> str:
    return number_text(estimate.value, 3)
