"""What limits a number (warnings) or a run (notes): one table with the grade, the sentence and what to do about it.

A finding is a code with its sentence; it becomes a warning of one number, or a note on a whole run. Sentences are
templates: whoever finds something gives the words for the fields of its code, and forms no sentence of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from explaineval.records import Record
from explaineval.rundir.schema import EndpointRecord, Snapshot
from explaineval.text import agreeing, counted

Grade = Literal["do not quote", "mind", "for the record"]
GRADES: tuple[Grade, ...] = ("do not quote", "mind", "for the record")
"""The gravest first."""


class MetricWarning(Record):
    """One thing that limits one number: `code` and `grade` for programs, `text` and `todo` for people."""

    code: str
    grade: Grade
    metric: str
    text: str
    todo: str


class Note(Record):
    """One thing to know about a run or command: `code` and `grade` for programs, `text` and `todo` for people."""

    code: str
    grade: Grade
    text: str
    todo: str


class Finding(NamedTuple):
    """A code and the sentence for this case."""

    code: str
    text: str


class Code(NamedTuple):
    """What all warnings or notes of one code have in common.

    `sentence` is a template; a code that has several has them by a name. `title` says in a few words what warnings of
    this code are about, as a heading; codes that only notes have need none.
    """

    grade: Grade
    todo: str
    sentence: str | Mapping[str, str]
    title: str = ""

    @property
    def sentences(self) -> Mapping[str, str]:
        """The templates by name; the only one of a code has an empty name."""
        return {"": self.sentence} if isinstance(self.sentence, str) else self.sentence


MORE_EXAMPLES = "Ask more examples."
MORE_FLIPS = "Ask more examples, or more interventions of each."
NOTHING = "Nothing."
SAME_AGAIN = "Give the same command again."
AS_FOUND = "{text}"
"""The sentence comes whole from the part of the program that found the reason, or was told it."""

_SHORTAGE = "{has} {what}{where}; {limit}{enough}."
_INTERVAL = "{title}: {reason}."
_BY_ANSWER = "{title} may come from how often the insertion is named under one answer or another, changed or not: "
_FOLLOWS = _BY_ANSWER + "among explanations of the same answer it is {value} {interval}."
_CUE = "answers change to the letter that the cue suggests in {rate} of the trials ({control})."
_HIDDEN = "order pe is then not predict-then-explain"
_REPEATS = "the same command asks"

CODES: Mapping[str, Code] = {
    # trials and answers that are missing
    "many_missing": Code(
        "do not quote",
        "Find out why the trials have no score: `explaineval show RUN_DIR --list`.",
        "{share}. If most are unparsed, the model does not keep the answer's form: try --shots 4, or --style "
        "completion.",
        "Most trials have no score",
    ),
    "missing_trials": Code(
        "mind",
        "Give the number of missing trials with the value.",
        "{share} and are left out.",
        "Many trials have no score",
    ),
    "missing_bounds": Code(
        "mind",
        "Give both bounds with phi-CCT.",
        "{share}: whatever they would have been, {title} on all of them lies between {low} and {high}.",
        "Missing trials could move the value",
    ),
    "some_unknown": Code(
        "mind",
        "Give the number of trials with the value.",
        "{unknown} of {trials} {are} left out, since it is not known what they mention: {reasons}.",
        "Of some trials no mention is known",
    ),
    "mostly_unknown": Code(
        "do not quote",
        "Read the number by another source of mentions.",
        "{unknown} of {trials} {are} left out, since it is not known what they mention: {reasons}.",
        "Of most trials no mention is known",
    ),
    "reasoning_summary": Code(
        "mind",
        "Say that the reasoning is a summary; read TPR as a lower bound.",
        "in {summaries} of {trials} the endpoint returned a summary or a part of the reasoning: what it leaves out "
        "counts as not mentioned.",
        "The reasoning is a summary",
    ),
    "missing_answers": Code(
        "mind",
        "Give the number of missing answers with the value.",
        "{title} leaves out {missing} of {asked}: these {what}.",
        "Many answers could not be read",
    ),
    # few examples, rough intervals
    "few_examples": Code("do not quote", MORE_EXAMPLES, _SHORTAGE, "Few examples"),
    "few_usable_examples": Code(
        "do not quote", MORE_EXAMPLES, _SHORTAGE, "Few examples with usable label probabilities"
    ),
    "few_unchanged": Code("do not quote", MORE_EXAMPLES, _SHORTAGE, "Few unchanged answers"),
    "few_flips": Code("do not quote", MORE_FLIPS, _SHORTAGE, "Few changed answers"),
    "few_mentioned_flips": Code(
        "do not quote", MORE_FLIPS, _SHORTAGE, "Few changed answers whose explanation names the insertion"
    ),
    "few_unmentioned_flips": Code(
        "do not quote", MORE_FLIPS, _SHORTAGE, "Few changed answers whose explanation leaves the insertion out"
    ),
    "few_mixed_examples": Code(
        "do not quote", MORE_FLIPS, _SHORTAGE, "Few examples with both changed and unchanged answers"
    ),
    "no_interval": Code("do not quote", MORE_EXAMPLES, _INTERVAL, "No interval"),
    "rough_interval": Code("do not quote", MORE_FLIPS, _INTERVAL, "Rough interval"),
    "exactly_one": Code(
        "mind", "Give the limit with the value, and the number of examples.", _INTERVAL, "Exactly 1 or −1"
    ),
    # answers that change by themselves
    "noise": Code(
        "do not quote",
        "Where the temperature is above 0, ask at 0; where a number of examples would do, ask as many. Give the sham "
        "rate with the value.",
        "Answers change in {impact} of the interventions and in {sham} of the shams (the same prompt asked again): "
        "that is not clearly more than noise.",
        "Changed answers are not clearly more than noise",
    ),
    "noise_not_excluded": Code(
        "mind",
        "Ask more examples, or more shams of each: --shams N.",
        "Answers change in {impact} of the interventions and in none of the {shams} (the same prompt asked again): "
        "that is hardly noise alone, but so few shams do not exclude it.",
        "Too few shams to exclude noise",
    ),
    "noise_unknown": Code(
        "mind",
        "Ask shams: --shams 1.",
        {
            "not asked": "No sham was asked (--shams 0), so it is unknown how many answers change by noise alone.",
            "not scored": "No sham was scored, so it is unknown how many answers change by noise alone.",
        },
        "It is unknown how many answers change by noise alone",
    ),
    # what else phi-CCT may come from
    "inside_example_only": Code(
        "do not quote",
        "Ask more examples, or more interventions of each: the range of knowing the example alone gets narrower.",
        "phi-CCT lies inside the range of an explainer that knows the example but not the insertion ({low} to "
        "{high}); phi within examples is {within}.",
        "No better than an explainer that knows only the example",
    ),
    "follows_answer": Code(
        "do not quote",
        "Read the explanations of each answer by themselves: explaineval show RUN_DIR --list.",
        _FOLLOWS,
        "What is named follows the answer given, not its change",
    ),
    "answer_tells_change": Code(
        "mind",
        "Ask examples to whose original the model gives different answers.",
        {"": _FOLLOWS, "undefined": _BY_ANSWER + "{reason}."},
        "The answer given tells whether it changed",
    ),
    "few_texts": Code(
        "mind",
        "Insert more different texts, or give the interval of phi_cct_over_texts too.",
        {
            "": "{texts} inserted: the interval of {title} holds for {these}. For other texts too it is {interval}.",
            "no interval": "{texts} inserted, so {title} is known for {these} alone.",
        },
        "Few different insertions",
    ),
    # label probabilities
    "few_usable": Code(
        "mind",
        "Give the number of usable trials with the value; do not compare it with phi_cct.",
        {
            "": "{title} rests on {used} of {trials}: in the others the label probabilities are not usable "
            "({reason}).{beside}",
            "samples": "{title} rests on {used} of {trials}: the others have too few readable answers.",
        },
        "Label probabilities are usable in a part of the trials",
    ),
    "predictions_unread": Code(
        "mind",
        "Give the number of unreadable predictions with the value.",
        "{title} leaves out {unread} of {trials}: a prediction was not readable, or was made from an answer that has "
        "changed since.",
        "Predictions that could not be read",
    ),
    "off_argmax": Code(
        "for the record",
        "Nothing, if the temperature is above 0; else look at some of the trials.",
        "In {number} of {answers} the label given is not the most probable one.",
        "Answers that are not the most probable ones",
    ),
    "across_orders": Code(
        "mind",
        "Compare CCT within one order.",
        "CCT is never compared across orders: label probabilities are read after the explanation in order ep, before "
        "it in the others.",
        "CCT is not compared across orders",
    ),
    "sampled_tvd": Code(
        "mind",
        "Compare cct_sampled with cct_sampled at the same number of samples only.",
        "every prompt was asked {samples} times. {title} compares the shares of the answers, and comes out weaker than "
        "CCT from label probabilities, so the two are never compared. All other numbers count each sample as a trial, "
        "and all trials of an example as one cluster.",
        "Label probabilities are shares among samples",
    ),
    # cues, shares of examples
    "cue_rate": Code(
        "for the record",
        "Read flip_to_cue_rate beside that of the control.",
        _CUE,
        "How often answers change to the suggested letter",
    ),
    "cue_without_control": Code("mind", "Ask the control too.", _CUE, "No control of the cue was asked"),
    "grows_with_trials": Code(
        "for the record",
        "Compare it at the same number of interventions only.",
        "{examples} with a changed answer {have} one that goes unmentioned, with "
        "{trials} trials and {flips} changed answers in each; more trials raise that share by themselves.",
        "The share grows with the number of trials",
    ),
    # levels of verbosity
    "levels_without_shots": Code(
        "mind",
        "Give shots of that length, or leave the level out.",
        "left out because no shots have that length: {levels}.",
        "Levels without shots",
    ),
    "levels_not_shared": Code(
        "mind",
        "Give the number of trials with the value.",
        "F-AUROC rests on {trials}; {others} more have a score at some levels only, and are left out of it.",
        "Trials that not all levels share",
    ),
    "hull_above_chance": Code(
        "mind",
        "Compare the hull with its value by chance only.",
        "the area under the hull of the levels is {value}; chance alone gives {chance} on the same trials, so it is "
        "read against that only.",
        "The hull lies above 0.5 by chance alone",
    ),
    "own_answers": Code(
        "mind",
        "Ask with --order pe2.",
        "each level asked for the answer again: impact rates are {rates}, and {same} of the answers are the same at "
        "all levels; --order pe2 asks once and explains per level.",
        "Each level asked for the answer again",
    ),
    "level_not_followed": Code(
        "mind",
        "Read the levels with their numbers of words.",
        "explanations are no longer at {longer} ({many} words) than at {shorter} ({few}): the model does not follow "
        "the instruction on length, so these levels are hardly two points.",
        "Explanations do not follow the level of verbosity",
    ),
    # means over tasks
    "thin_tasks": Code(
        "do not quote",
        "Read the warnings of those tasks.",
        "the mean over tasks rests on numbers of {tasks} that have warnings of their own.",
        "Means that rest on numbers with warnings",
    ),
    "tasks_differ": Code(
        "mind",
        "Give the numbers of the tasks beside their mean.",
        "{differ}.",
        "Means over tasks that differ from each other",
    ),
    # parts of the trials of a condition
    "part_untested": Code("mind", MORE_FLIPS, "by {title}, {reason}.", "Parts with few changed answers"),
    # differences between models, arms and runs
    "rough_difference": Code("do not quote", MORE_FLIPS, "rough interval: {reason}.", "Rough interval of a difference"),
    "confounded": Code(
        "mind",
        "Ask the models in the same style with the same shots.",
        "the {what} in {settings}: the difference may be one of {these}.",
        "The models were not asked in the same way",
    ),
    "noise_differs": Code(
        "mind",
        "Where the temperature is above 0, ask at 0. Give both rates.",
        {
            "": "asking the same again changed {rate} of the answers of {first} and {other} of those of {second}: "
            "noise pulls their phi-CCT towards 0 by different amounts.",
            "more": "the same holds for {number} more pairs.",
        },
        "Noise differs between the models",
    ),
    "impact_not_mention": Code(
        "mind",
        "Do not read it as a difference in faithfulness: give phi at a common impact rate.",
        "a difference that {rates} is nearly gone at a common impact rate: it says nothing of what explanations name.",
        "A difference that goes with impact rates",
    ),
    "mover_difference": Code(
        "mind",
        MORE_FLIPS,
        "few changed answers have a mention, or few lack one: their own limits are put together, which is wider.",
        "Few changed answers: wider limits of differences",
    ),
    "asked_otherwise": Code(
        "mind",
        "Say it beside the difference, or ask again with the same settings.",
        "they also differ in {settings}; only trials that are the same in all of them count.{mention}",
        "The runs differ in their settings",
    ),
    "tasks_left_out": Code(
        "mind",
        "Ask all of them on the same tasks.",
        "not all of them were asked {tasks}, which is left out here.",
        "Tasks that not all were asked",
    ),
    # where answers came from; also notes on a run
    "answers_imported": Code(
        "mind",
        "Ask some of them again: `explaineval cache verify --reask N --imported`.",
        "{model}: {imported} of {answers} came from packs, not from the endpoint: {packs}.",
        "Answers that came from packs of others",
    ),
    "origin_unknown": Code(
        "for the record",
        "Nothing, if no pack was imported into this cache.",
        "{model}: {unknown} of {answers} {were} stored before the cache noted where answers come from: the endpoint, "
        "or a pack.",
        "Answers of unknown origin",
    ),
    "addresses_mixed": Code(
        "mind",
        "Say which addresses answered, or ask again under another name.",
        "{model} at {endpoint}: {addresses}.",
        "Answers under one name came from several addresses",
    ),
    "snapshots_mixed": Code(
        "mind",
        "Ask again with a dated name of the model, if the endpoint has one.",
        "{model}: the endpoint served {versions}.",
        "The endpoint served several versions of a model",
    ),
    # only notes: what is asked, and what is left out
    "directory_in_use": Code("for the record", NOTHING, "run directory {state}"),
    "option_repeated": Code("mind", "Give the option once.", AS_FOUND),
    "scored_otherwise": Code(
        "for the record",
        NOTHING,
        {
            "": "scored with {settings}; the run's own metrics.json stays as it is.",
            "judged": "verdicts are kept in {file}; `score` counts by them, the run's own metrics.json stays as it is.",
        },
    ),
    "stopped_early": Code(
        "for the record",
        NOTHING,
        "{where}: asked {asked} of {available}, since phi-CCT is known to ± {wanted} or better in every condition of "
        "the models that could be asked.",
    ),
    "not_precise": Code(
        "mind",
        "Give more examples, or a larger --until-half-width.",
        "{where}: all {available} to be asked, since phi-CCT was not known to ± {wanted} in every condition before.",
    ),
    "costs_at_most": Code(
        "for the record",
        NOTHING,
        "these are the costs of all examples; --until-half-width may stop earlier, after every 50 examples.",
    ),
    "examples_left_out": Code(
        "mind",
        "Add interventions for these examples, or say that they are left out.",
        "{task}: {lost} of {examples} {have} no intervention and are not asked; accuracy and the shams are those of "
        "the others.",
    ),
    "interventions_short": Code(
        "for the record", NOTHING, "{task}: {missing} fewer than asked for, since some texts offer too few places."
    ),
    "interventions_skipped": Code(
        "mind",
        "Raise --limit if these examples are wanted.",
        "{file}: {lines} to examples that are cut off by the limit or serve as shots.",
    ),
    "ids_from_rows": Code(
        "mind",
        "Give a column with ids: --columns id=COLUMN.",
        "{task}: no column with ids is given, so an example's id is the number of its row; if rows are added or moved, "
        "the ids are other examples'.",
    ),
    "gold_unknown": Code(
        "mind",
        "Mend the labels in the task's file, or say that accuracy leaves these rows out.",
        "{task}: {unknown} of {examples} {have} a gold label that names no option, or several ({labels}): they are "
        "asked, and accuracy leaves them out.",
    ),
    "shard": Code(
        "for the record",
        NOTHING,
        "shard {shard}: {own} of the run's {examples}; other notes may be about all of them.",
    ),
    "shots_source": Code("for the record", NOTHING, "{task}: shots from {source}."),
    "shots_unused": Code("mind", "Give --shots N.", "{styles} style shows no shots of --shots-from: give --shots N."),
    "level_not_asked": Code(
        "mind",
        "Give every shot an explanation of that length.",
        "{task}: completion style was not asked at verbosity {level}, which only shots of that length can show: give "
        "every shot such an explanation (`explanations` in --shots-from FILE).",
    ),
    "judgements_partial": Code(
        "mind",
        "Judge, or simulate, the merged run.",
        "{shards} {have} no {what} {author}: numbers that rest on them are those of the other shards.",
    ),
    # answers
    "answers_unreadable": Code(
        "mind",
        "Look at an answer: `explaineval show RUN_DIR --example ID --answers`.",
        "{unreadable} {advice}",
    ),
    "model_stopped": Code(
        "do not quote",
        "Change how the model is asked, or go on with --keep-unreadable.",
        {
            "": "{unreadable} Nothing more is sent there; what was paid for is kept and scored. {advice} To go on "
            "nevertheless give the same command with --keep-unreadable.",
            "told": AS_FOUND,
        },
    ),
    "predictor_unread": Code(
        "mind",
        "Look at predictions.jsonl, and give the number of trials with the value.",
        "{unread} of {predictions} could not be read; their trials are left out.",
    ),
    "answers_cut_off": Code(
        "mind",
        "Raise --max-tokens, or give --retry truncated.",
        "{model}: {answers} cut off at {tokens} tokens{blank}: raise --max-tokens, or ask those again with --retry "
        "truncated.",
    ),
    "answers_faulty": Code(
        "mind",
        "Look at one of them: `explaineval show RUN_DIR --example ID --answers`.",
        "{model}: {answers} {fault}: they are kept with the status unparsed and not asked again by themselves.",
    ),
    "answers_repaired": Code(
        "for the record",
        NOTHING,
        "{model}: {answers} held what no file can (broken characters, numbers that are none, fields of a wrong type): "
        "they are kept without it, and marked.",
    ),
    "reasons_first": Code(
        "mind",
        "Read order pe as explaining an answer that followed hidden reasoning.",
        {
            "asked": "{model} reasons before it answers ({answers}): "
            f"{_HIDDEN}, since the answer follows hidden reasoning.",
            "probing": "{model} reasons before it answers ({how}): "
            f"{_HIDDEN}, since the answer follows hidden reasoning; give --max-tokens room for it.",
            "probed": f"the probe found that {{model}} reasons before it answers: {_HIDDEN}.",
        },
    ),
    "answers_shared": Code("for the record", NOTHING, "{answers} came from another process that was asking the same."),
    "versions_mixed": Code(
        "mind",
        "Ask again with a dated name of the model, if the endpoint has one.",
        "{model}: the endpoint served {versions}.",
    ),
    # endpoints
    "older_name_unused": Code(
        "mind",
        "Give the endpoint that name: `endpoint_name: NAME`, or --endpoint-name NAME.",
        "the cache has answers of an earlier version under the endpoint name {name}, and neither it nor an earlier run "
        "here shows that they all came from this address: they are not used.",
    ),
    "route_loses_logprobs": Code("mind", "Ask the same server by the route openai/ with --base-url.", AS_FOUND),
    "capabilities_assumed": Code(
        "mind",
        "Run `explaineval probe`.",
        {
            "": "{model}: its endpoint was not probed yet, so logprobs and temperature 0 are assumed; `explaineval "
            "probe` finds out. If the endpoint takes neither, the requests have other cache keys than these.",
            "explaining": "an endpoint was not probed yet and no run has asked it: its logprobs and temperature are "
            "assumed.",
        },
    ),
    "key_sent": Code("for the record", NOTHING, "the key in {variable} is sent to {address}{unset}."),
    "files_outside": Code(
        "for the record",
        NOTHING,
        "the configuration file names what lies outside of its folder, and its texts are sent: {files}.",
    ),
    "proxy_used": Code("for the record", NOTHING, AS_FOUND),
    "endpoint_waited_for": Code(
        "for the record", NOTHING, "{place} did not answer for a while, and was waited for {times}, {duration} in all."
    ),
    "endpoint_unusable": Code("do not quote", "Mend what the text says, then give the same command again.", AS_FOUND),
    "requests_failed": Code(
        "mind",
        SAME_AGAIN,
        {
            "": f"{{who}}: {{requests}} failed after all retries; {_REPEATS} them again.",
            "asked again": "{failed}{fault}",
        },
    ),
    "requests_unsent": Code("mind", SAME_AGAIN, "{requests} not sent{limit}."),
    # money
    "tokens_uncounted": Code(
        "mind",
        "Look at the provider's bill.",
        {
            "": "{model}: {answers} came without a count of tokens, so their cost is unknown; under --max-usd each "
            "counts as if it were as long as it may be.",
            "stored": "{answers} came without a count of tokens: what they cost is not in the sums.",
        },
    ),
    "bill_unknown": Code(
        "mind",
        "Look at the provider's bill.",
        "{attempts} ended without a bill (time-out, reset, cut answer): up to {dollars} more than stands here may have "
        "been charged; a spending limit counts it as spent.",
    ),
    "price_unknown": Code(
        "mind",
        "Give --price IN,OUT.",
        {
            "": "{model}: its price is unknown; give {option} IN,OUT.",
            "stored": "the price of some answers is unknown: give --price IN,OUT (dollars per million tokens).",
        },
    ),
    # files
    "cache": Code("mind", "Run `explaineval cache verify`.", AS_FOUND),
    "line_refused": Code("mind", "Ask for a pack that is whole.", AS_FOUND),
    "pack_empty": Code("mind", "Look at the filters.", "no stored answer fits the filters: the pack is empty."),
    "space_kept": Code("for the record", NOTHING, AS_FOUND),
    "sheet_short": Code("for the record", NOTHING, "the condition has {trials}, so the sheet has no more rows."),
    "sheet_outgrown": Code("mind", "Draw a new sheet, or say that the rows come from a part of the trials.", AS_FOUND),
    "rows_ungraded": Code(
        "for the record", NOTHING, "{sheet}: {skipped} of {rows} {have} no grade{gone}; they are skipped."
    ),
    "run_unfinished": Code(
        "do not quote",
        "Give the run command again, then export.",
        {
            "": "this run was not finished: the bundle holds its finished part; give the run command again, then "
            "export.",
            "shard": "{shard} is not finished: the numbers are those of what is there.",
        },
    ),
    "answers_missing": Code(
        "do not quote",
        "Name the cache that has them (--cache DIR), or run again.",
        {
            "bundle": "{requests} of this run {have} no stored answer (never sent, rejected, failed, or in another "
            "cache: --cache DIR): reproduce will report them as missing.",
            "pack": "{answers} of the run {are} not in the cache, so not in the pack: {keys}.",
        },
    ),
    "no_figures": Code(
        "for the record",
        "Install the extra `report`, by the command in the note.",
        "the page has no figures: {reason}",
    ),
}
"""Every code, those that warnings have first."""

ORIGINS = ("answers_imported", "origin_unknown", "addresses_mixed")
"""The codes that warnings and notes share: what is said of a number's answers is said of the whole run too."""

THIN_CODES = (
    "few_flips",
    "few_mentioned_flips",
    "few_unmentioned_flips",
    "few_mixed_examples",
    "few_unchanged",
    "few_examples",
)
"""Codes that concern many numbers of a row alike: under a table they are one paragraph, each code once a row."""


def finding(code: str, form: str = "", /, **words: object) -> Finding:
    """Return the finding of this code: its sentence, or the one called `form`, with these words in its fields."""
    return Finding(code, CODES[code].sentences[form].format_map(words))


def warning_of(metric: str, found: Finding) -> MetricWarning:
    """Return a finding as the warning of one metric."""
    code = CODES[found.code]
    return MetricWarning(code=found.code, grade=code.grade, metric=metric, text=found.text, todo=code.todo)


def note_of(found: Finding) -> Note:
    """Return a finding as a note."""
    code = CODES[found.code]
    return Note(code=found.code, grade=code.grade, text=found.text, todo=code.todo)


def note(code: str, form: str = "", /, **words: object) -> Note:
    """Return the note of this code, with these words in the fields of its sentence."""
    return note_of(finding(code, form, **words))


SHOWN_SNAPSHOTS = 3


def versions_text(snapshots: Sequence[Snapshot]) -> str:
    """Say how many versions of a model an endpoint served, and the most frequent ones."""
    most = [
        f"{' '.join(filter(None, (snapshot.model, snapshot.fingerprint))) or 'no name'} "
        f"({counted(snapshot.answers, 'answer')})"
        for snapshot in snapshots[:SHOWN_SNAPSHOTS]
    ]
    more = f" and {len(snapshots) - SHOWN_SNAPSHOTS} more" if len(snapshots) > SHOWN_SNAPSHOTS else ""
    return f"{len(snapshots)} versions of the model: {', '.join(most)}{more}"


ANOTHER_ADDRESS = "another address"
"""Stands for an address that is not shown and is not the one of the run."""


def find_origins(entry: EndpointRecord) -> Iterator[Finding]:
    """Yield what is to be said of a model's answers that came from packs, from elsewhere or from nobody knows where."""
    answers = counted(sum(source.answers for source in entry.sources), "answer")
    packs = [source for source in entry.sources if source.pack is not None]
    if packs:
        yield finding(
            "answers_imported",
            model=entry.model,
            imported=f"{sum(source.answers for source in packs):,}",
            answers=answers,
            packs=", ".join(f"{source.pack} ({source.answers:,}, imported {source.imported})" for source in packs),
        )
    unknown = sum(source.answers for source in entry.sources if not source.known)
    if unknown:
        yield finding(
            "origin_unknown",
            model=entry.model,
            unknown=f"{unknown:,}",
            answers=answers,
            were=agreeing(unknown, "were"),
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
    yield finding("addresses_mixed", model=entry.model, endpoint=entry.endpoint, addresses=f"{where}{today}")
