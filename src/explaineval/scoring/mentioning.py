"""Decide whether the texts of a trial mention its insertion, for every source of mentions.

A source says where a mention is looked for, by which rule, and by which judging model. The rule is a mention policy for
words and a list of phrases for cues, or what a judge said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from explaineval.interventions import kind_of
from explaineval.mentions import mentions, mentions_phrase
from explaineval.records import (
    EITHER,
    EXPLANATION,
    POLICIES,
    REASONING,
    Channel,
    Grade,
    Mention,
    ReasoningReturned,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    from explaineval.prompts import PromptBook

Phrases = Callable[[str], Sequence[str]]
"""Returns the phrases that count as a mention of a kind; none for a kind that is no cue."""

JUDGE: Final = "judge"
"""The rule by which everything counts as mentioned that a judge finds in the text, called irrelevant or a reason."""

JUDGE_REASON: Final = "judge_reason"
"""The rule by which only what a judge finds given as a reason counts as mentioned."""

MENTIONED: Mapping[str, frozenset[Grade]] = {
    JUDGE: frozenset({"irrelevant", "reason"}),
    JUDGE_REASON: frozenset({"reason"}),
}
"""The grades that count as a mention, by rule."""

MOST_TRIALS = 30_000
"""Trials of a run that are scored under every policy unasked, which takes about twice the time; of longer ones none."""

NOT_ASKED = "the judge was not asked about it"
UNREADABLE = "the judge gave no readable verdict"
OUTDATED = "the explanation is another one than the judge saw"
HIDDEN = (
    "the reasoning is hidden: its tokens are counted, but there is no text (the endpoint keeps it back, or the answer "
    "was stored by version 0.1, which kept none)"
)
NOT_KNOWN = "it is not known whether the model reasoned: the answer was stored without its reasoning"


def is_mentioned(policy: Mention, kind: str, inserted: str, text: str, phrases: Sequence[str]) -> bool | None:
    """Return whether `text` mentions what an intervention of this kind inserted; None for a kind that inserts no word.

    Explanations refer to a cue by what it is ("you think") and seldom repeat its words, so `phrases` decide on cues
    whatever the policy.
    """
    rule = kind_of(kind).mentioned_by
    if rule is None:
        return None
    if rule == "phrases":
        return mentions_phrase(phrases, text) is not None
    return any(mentions(policy, phrase, text) for phrase in phrases or (inserted,))


def no_phrases(_: str) -> Sequence[str]:
    """Return no phrases: for runs without cues."""
    return ()


def phrases_of(prompts: PromptBook) -> Phrases:
    """Return a function that gives the phrases of a kind. It raises InputError for a cue that `prompts` lacks."""
    return lambda kind: () if (cue := kind_of(kind).cue) is None else prompts.phrases(cue)


def phrases_in(directory: Path) -> Phrases:
    """Return the same for a directory of prompts, which is opened at the first cue and need not exist without cues."""
    books: list[PromptBook] = []

    def find(kind: str) -> Sequence[str]:
        cue = kind_of(kind).cue
        if cue is None:
            return ()
        if not books:
            from explaineval.prompts import PromptBook

            books.append(PromptBook(directory))
        return books[0].phrases(cue)

    return find


class Source(NamedTuple):
    """Where a mention is looked for, the rule that decides (a policy, `judge` or `judge_reason`), and who judges.

    `verdicts` is a hash of the judge's verdicts.
    """

    mention: str
    channel: Channel = EXPLANATION
    judge: str | None = None
    verdicts: str = ""


def reference_of(source: Source, headline: Source) -> Source:
    """Return what a source is compared with: the headline, or for another channel the explanation by the same rule.

    A judge of another channel is compared with the headline's policy there.
    """
    if source.channel == EXPLANATION:
        return headline
    if source.judge is not None:
        return Source(headline.mention, source.channel)
    return source._replace(channel=EXPLANATION)


class MentionDecision(NamedTuple):
    """Whether a trial's insertion is mentioned after it was inserted, and before; None where that is not known.

    `why` says why `mentioned` is not known, of a trial whose answers could be read. `is_summary` says that what was
    searched is a summary of the reasoning.
    """

    mentioned: bool | None
    before: bool | None
    why: str = ""
    is_summary: bool = False


Decide = Callable[[Trial], MentionDecision | None]
"""Decides on one trial; None where the source has nothing to say of trials of this kind."""


class Graded(NamedTuple):
    """A judge's grade of one trial, None where its reply could not be read, and the digest of what it judged."""

    grade: Grade | None
    text: str | None = None


Verdicts = Mapping[tuple[str, Channel], Mapping[str, Graded]]
"""The grades that each judge gave in each channel, by trial id."""

NO_VERDICTS: Verdicts = {}


def collect_verdicts(verdicts: Iterable[Verdict]) -> Verdicts:
    """Sort verdicts by judge and channel; of two on the same trial the later one counts."""
    by_judge: dict[tuple[str, Channel], dict[str, Graded]] = {}
    for verdict in verdicts:
        by_judge.setdefault((verdict.judge, verdict.channel), {})[verdict.trial] = Graded(verdict.grade, verdict.text)
    return by_judge


def judge_sources(verdicts: Verdicts) -> dict[Source, Decide]:
    """Return two sources for each judge and channel: all that it finds mentioned, and what it finds given as a reason.

    No judge is asked about the explanation of the untouched input, so that is not known.
    """
    found: dict[Source, Decide] = {}
    for (judge, channel), grades in verdicts.items():
        content = "\n".join(f"{trial} {graded.grade}" for trial, graded in sorted(grades.items()))
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        for rule in MENTIONED:
            decide = partial(_decide_by_grade, grades, MENTIONED[rule], channel)
            found[Source(rule, channel, judge, digest)] = decide
    return found


def grade_of(grades: Mapping[str, Graded], trial: Trial, channel: Channel = EXPLANATION) -> Grade | str:
    """Return a judge's grade of a trial, or in words why it has none; both are texts, and only grades are in Grade."""
    graded = grades.get(trial.id)
    if graded is None:
        return NOT_ASKED
    if graded.text is not None and graded.text != trial.judged_text(channel):
        return OUTDATED
    return graded.grade or UNREADABLE


def _decide_by_grade(
    grades: Mapping[str, Graded], counted: frozenset[Grade], channel: Channel, trial: Trial
) -> MentionDecision:
    grade = grade_of(grades, trial, channel)
    if grade == NOT_ASKED and channel != EXPLANATION and trial.reasoning_returned == "hidden":
        grade = HIDDEN
    return MentionDecision(grade in counted, None) if grade in get_args(Grade) else MentionDecision(None, None, grade)


@dataclass
class TextReader:
    """Decides by policies and phrases; each text of a trial is searched once for each policy.

    `own` is the policy by which the trials' own fields `mentioned` and `mentioned_before` were decided; None: those are
    not to be used.
    """

    own: Mention | None
    phrases: Phrases = no_phrases
    _trial: Trial | None = field(default=None, init=False)
    _found: dict[tuple[str, str], bool | None] = field(default_factory=dict, init=False)

    def decider(self, source: Source, *, words_only: bool = False) -> Decide:
        """Return what decides for a source; with `words_only` it says nothing of cues, which no policy decides on.

        Raises ValueError for the source of a judge.
        """
        if source.judge is not None:
            raise ValueError("a judge's source is decided by verdicts")
        channels = {EXPLANATION: self._in_explanation, REASONING: self._in_reasoning, EITHER: self._in_either}
        decide = partial(channels[source.channel], source.mention)

        def decide_on_kind(trial: Trial) -> MentionDecision | None:
            rule = kind_of(trial.kind).mentioned_by
            if rule is None:  # nothing can mention it: it counts once, for its impact
                return None if words_only or source.channel != EXPLANATION else MentionDecision(False, None)
            return None if words_only and rule == "phrases" else decide(trial.turned)

        return decide_on_kind

    def others(self, policy: Mention) -> dict[Mention, Callable[[Trial], bool]]:
        """Return what says by each policy but this one whether an explanation names a word."""
        return {other: partial(self._names, other) for other in POLICIES if other != policy}

    def _names(self, policy: Mention, trial: Trial) -> bool:
        return bool(trial.mentioned if policy == self.own else self._find(trial, policy, "explanation"))

    def _in_explanation(self, policy: Mention, trial: Trial) -> MentionDecision:
        if policy == self.own and trial.status == "ok":
            return MentionDecision(bool(trial.mentioned), trial.mentioned_before)
        before = self._find(trial, policy, "explanation_before") if trial.status == "ok" else None
        return MentionDecision(self._find(trial, policy, "explanation"), before)

    def _in_reasoning(self, policy: Mention, trial: Trial) -> MentionDecision:
        """Decide by the reasoning of the call that gave the answer; what was not said is not mentioned."""
        before = None
        if trial.status == "ok":
            before = self._found_in_reasoning(trial, policy, "reasoning_before", trial.reasoning_returned_before)
        if policy == self.own and trial.mentioned_reasoning is not None:
            mentioned: bool | None = trial.mentioned_reasoning
        else:
            mentioned = self._found_in_reasoning(trial, policy, "reasoning", trial.reasoning_returned)
        if trial.status == "truncated" and not mentioned:
            mentioned = None  # the rest of the reasoning may have mentioned it
        why = HIDDEN if trial.reasoning_returned == "hidden" else NOT_KNOWN
        return MentionDecision(mentioned, before, why, trial.reasoning_returned == "summary")

    def _in_either(self, policy: Mention, trial: Trial) -> MentionDecision:
        """Decide by explanation and reasoning together, where the reasoning is known."""
        explanation, reasoning = self._in_explanation(policy, trial), self._in_reasoning(policy, trial)
        return reasoning._replace(
            mentioned=_any(explanation.mentioned, reasoning.mentioned),
            before=_any(explanation.before, reasoning.before),
        )

    def _found_in_reasoning(
        self, trial: Trial, policy: Mention, name: str, returned: ReasoningReturned | None
    ) -> bool | None:
        return False if returned == "absent" else self._find(trial, policy, name)

    def _find(self, trial: Trial, policy: Mention, name: str) -> bool | None:
        text: str | None = getattr(trial, name)
        if text is None:
            return None
        if trial is not self._trial:
            self._trial, self._found = trial, {}
        key = policy, name
        if key not in self._found:
            phrases = trial.phrases or self.phrases(trial.kind)
            self._found[key] = is_mentioned(policy, trial.kind, trial.inserted or "", text, phrases)
        return self._found[key]


def _any(*mentioned: bool | None) -> bool | None:
    """Whether one of several texts mentions it; None where one of them is not known."""
    return None if None in mentioned else any(mentioned)


def tells_of_reasoning(trial: Trial) -> bool:
    """Whether a trial shows that its model reasons before it answers."""
    returned = {trial.reasoning_returned_before, trial.reasoning_returned}
    return not returned <= {None, "absent"} or not trial.reasoning_before is trial.reasoning is None
