"""One example as text: every status in words, every span in its place, and no text that does anything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.mentions import mentions
from explaineval.records import Completion, Example, Intervention, Mention, Trial
from explaineval.reporting.example_view import (
    STATUSES,
    ViewOptions,
    arm_view,
    case_document,
    decide,
    example_view,
    fits,
    keys_of,
    make_case,
    unread,
    why_unread,
)
from explaineval.reporting.tables import render
from explaineval.text import flat, visible

EXAMPLE = Example(
    id="e1",
    task="mine",
    fields={"note": "The clerk waits."},
    options={"A": "yes", "B": "no"},
    gold="A",
    explanation="Clerks wait.",
)
EDIT = Intervention(id="e1.1", task="mine", example_id="e1", kind="hand", field="note", offset=4, inserted="quick")
CUE = Intervention(id="e1.c", task="mine", example_id="e1", kind="cue_user", inserted="I think it is (B).", target="B")
AS_CUE = {"kind": "cue_user", "field": None, "inserted": CUE.inserted, "text_after": CUE.inserted}
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def make_trial(**changes: Any) -> Trial:
    """A trial whose answer stays and whose explanation says "quickly"."""
    values = {
        "endpoint": "lab", "model": "openai/smol", "task": "mine", "order": "pe", "style": "chat", "shots": 0,
        "verbosity": "normal", "sample": 0, "example_id": "e1", "intervention_id": "e1.1", "kind": "hand",
        "field": "note", "inserted": "quick", "text_after": "The quick clerk waits.", "status": "ok",
        "status_side": None, "label_before": "A", "label_after": "A", "gold": "A", "changed": False, "mentioned": True,
        "probs_before": {"A": 0.75, "B": 0.25}, "probs_after": {"A": 0.5, "B": 0.5}, "label_mass_before": 1.0,
        "label_mass_after": 0.95, "tvd": 0.25, "tvd_reason": None, "mentioned_before": False,
        "explanation_before": "He waits.", "explanation": "He waits quickly.", "key_before": "b" * 64,
        "key_after": "a" * 64,
    }  # fmt: skip
    return Trial.model_validate(values | changes)


def make_missing(status: str, side: str | None) -> Trial:
    """A trial of a status, without what could not be read."""
    changes: dict[str, Any] = {"status": status, "status_side": side, "changed": None, "mentioned": None, "tvd": None}
    for one in ("before", "after") if side == "both" else (side,) if side else ():
        changes |= {f"label_{one}": None, f"probs_{one}": None, f"label_mass_{one}": None}
        changes["explanation_before" if one == "before" else "explanation"] = None
    return make_trial(**changes)


def show(
    *trials: Trial, options: ViewOptions | None = None, width: int = 160, policy: Mention = "word", **given: Any
) -> str:
    """The text of one arm; `phrases` are those of every cue."""
    phrases, only = given.get("phrases"), given.get("only")
    edits = {one.id: one for one in (EDIT, CUE)}
    cases = [
        make_case(one, edits.get(one.intervention_id or ""), policy, "word", lambda _: phrases)
        for one in trials
        if one.kind != "sham"
    ]
    shams = [one for one in trials if one.kind == "sham"]
    options = options or ViewOptions()
    content = arm_view(given.get("example", EXAMPLE), cases, shams, options, only)
    return render(content, width=width, color=options.color)


def row(text: str, name: str, nth: int = 0) -> str:
    """What stands beside the nth row of a name."""
    found = [line.strip()[len(name) :].strip() for line in text.splitlines() if line.strip().startswith(name + "  ")]
    return found[nth]


def make_sham(**changes: Any) -> Trial:
    """The untouched input asked again."""
    plain = {"kind": "sham", "intervention_id": None, "field": None, "inserted": None, "text_after": None}
    return make_trial(**(plain | {"mentioned": None, "mentioned_before": None} | changes))


def test_the_example_is_shown_whole() -> None:
    """Fields, lettered options, gold answer and human explanation."""
    text = render(example_view(EXAMPLE), width=80)

    assert [re.sub(r"\s{2,}", "  ", line.strip()) for line in text.splitlines()] == [
        "e1 of task mine",
        "note  The clerk waits.",
        "options  A yes",
        "B no",
        "gold  A yes",
        "human  Clerks wait.",
    ]


def test_a_trial_can_be_followed() -> None:
    """What was put in, what came of it, and which word was taken for a mention of it."""
    text = show(make_trial())

    assert "1. hand: 'quick' into note  e1.1" in text
    assert row(text, "input") == "The [[quick]] clerk waits."
    assert row(text, "answer", 1) == "A = A  yes (gold)"
    assert row(text, "TVD") == "0.250"
    assert row(text, "p(letter)") == "A 0.750 → 0.500   B 0.250 → 0.500   (on letters: 1.000 → 0.950)"
    assert row(text, "explains", 1) == "He waits [[quickly]]."
    assert row(text, "mention") == "mentioned: 'quickly' matches 'quick' (policy word); not without the insertion"
    assert (row(text, "key"), row(text, "key", 1)) == ("b" * 12, "a" * 12)


def test_a_changed_answer_says_so() -> None:
    """Both letters, and the new option with its text."""
    text = show(make_trial(label_after="B", changed=True, tvd=None, tvd_reason="after: nothing"))

    assert row(text, "answer", 1) == "A → B changed  no (not gold)"
    assert row(text, "TVD") == "none (after: nothing)"
    assert "1 intervention: 1 changed, 1 mentioned, 0 not scored" in text


def test_a_mention_without_the_insertion_is_told() -> None:
    """The floor: the explanation that never saw the word has it too."""
    text = show(make_trial(explanation_before="A quick one.", mentioned_before=True))

    assert row(text, "mention").endswith("; without the insertion mentioned too: 'quick' matches 'quick'")


@pytest.mark.parametrize(
    ("status", "side"),
    [
        *((status, side) for status in STATUSES for side in ("before", "after", "both") if status not in
          ("ok", "cue_is_own_answer", "already_in_prompt")),
        ("cue_is_own_answer", None),
        ("already_in_prompt", None),
    ],
)  # fmt: skip
def test_every_status_is_told_in_words(status: Any, side: str | None) -> None:
    """By its name and in words, on the side where it was."""
    text = show(make_missing(status, side))

    assert f"({status}" in row(text, "no score")
    assert STATUSES[status] in text
    assert "1 not scored" in text
    assert ("\n   no answer " in text) == (side in ("before", "both"))
    if side is not None:
        answer = {"before": "none → A", "after": "A → none", "both": None}[side]
        assert answer is None or answer in text
    assert "TVD" not in text


def test_an_explanation_without_score_is_still_marked() -> None:
    """Where only the untouched input has no answer, the mention is known: it counts for the bounds."""
    text = show(make_missing("unparsed", "before"))

    assert row(text, "mention") == "mentioned: 'quickly' matches 'quick' (policy word); not scored"


def test_an_explanation_without_score_counts_nowhere() -> None:
    """Whatever policy is asked for: what has no score is not among the mentioned."""
    text = show(make_missing("unparsed", "before"), policy="substring")

    assert "1 intervention: 0 changed, 0 mentioned, 1 not scored" in text
    assert "mentioned: 'quick' matches 'quick' (policy substring); not scored" in text


def test_the_insertion_is_marked_at_its_place() -> None:
    """A word that stands in the input twice is marked where it was put in."""
    example = EXAMPLE.model_copy(update={"fields": {"note": "A quick clerk waits."}})
    edit = EDIT.model_copy(update={"offset": 14})
    trial = make_trial(text_after="A quick clerk quick waits.")
    case = make_case(trial, edit, "word", "word", lambda _: None)
    text = render(arm_view(example, [case], [], ViewOptions()), width=100)

    assert row(text, "input") == "A quick clerk [[quick]] waits."


def test_a_refusal_is_shown() -> None:
    """It came back in a place of its own, beside no text."""
    options = ViewOptions(completions={"a" * 64: Completion(text=None, refusal="I can't [say].")})
    text = show(make_missing("refused", "after"), options=options)

    assert row(text, "came back") == "I can't [say]."


def test_shams_are_one_line() -> None:
    """What asking again came to, counted."""
    same, moved = make_sham(), make_sham(label_after="B", changed=True)
    lost = make_sham(status="unparsed", status_side="after", changed=None, label_after=None)

    assert row(show(make_trial(), same), "noise") == "asked again 1 time: same answer"
    assert row(show(make_trial(), moved), "noise") == "asked again 1 time: changed to B no"
    expected = "asked again 4 times: 2 × same answer, 1 × changed to B no, 1 × no answer (unparsed)"
    assert expected == row(show(make_trial(), same, moved, same, lost), "noise")


@pytest.mark.parametrize(
    ("phrases", "said"),
    [
        (("you * think",), "mentioned: 'you really think' (phrases of the cue user); not without the insertion"),
        (("the user",), "not mentioned (phrases of the cue user); nor without the insertion; but the run recorded"),
        ((), "not mentioned (phrases of the cue user); nor without the insertion; but the run recorded"),
        (None, "mentioned, by the run's own record (the run directory keeps no phrases of the cue user)"),
    ],
)
def test_a_cue_goes_by_its_phrases(phrases: tuple[str, ...] | None, said: str) -> None:
    """Its text and letter are shown; without its phrases the run's own record stands."""
    trial = make_trial(**AS_CUE, intervention_id="e1.c", explanation="As you really think so.")
    text = show(trial, phrases=phrases)
    found = row(text, "mention").replace("; but the run recorded: mentioned, and that counts", "")
    expected = said.replace("; but the run recorded", "")

    assert "1. cue_user: suggests B no" in text
    assert row(text, "cue") == "I think it is (B)."
    assert expected == found
    assert ("and that counts" in text) == (said != expected)


def test_a_null_edit_mentions_nothing() -> None:
    """The space is marked, and there is nothing to decide."""
    trial = make_trial(kind="null_edit", inserted=" ", text_after="The  clerk waits.", mentioned=None)
    text = show(trial)

    assert "null_edit: one more space in note" in text
    assert "[[ ]]" in row(text, "input")
    assert row(text, "mention") == "nothing to decide (a null edit inserts no word)"


def test_another_policy_says_what_the_run_said() -> None:
    """The decision is new, counts, and the run's own stands beside it."""
    trial = make_trial(explanation="He waits quickish.", mentioned=False)

    assert row(show(trial), "mention").startswith("not mentioned (policy word)")
    text = show(trial, policy="substring")
    assert row(text, "mention").startswith("mentioned: 'quick' matches 'quick' (policy substring)")
    assert "the run itself: not mentioned" in text
    assert "1 mentioned" in text
    assert row(text, "explains", 1) == "He waits [[quick]]ish."


def test_a_decision_that_disagrees_with_the_record_is_told() -> None:
    """The record counts: a reader must see that what is marked is not what was scored."""
    text = show(make_trial(mentioned=False))

    assert "but the run recorded: not mentioned, and that counts" in text
    assert "0 mentioned" in text


def test_two_calls_have_two_keys() -> None:
    """Order pe2: the key of the answer beside that of the explanation."""
    one = make_trial(order="pe2", key_answer_before="c" * 64, key_answer_after="d" * 64)
    text = show(one)

    assert f"{'d' * 12} (answer), {'a' * 12} (explanation)" == row(text, "key", 1)
    assert keys_of(one, "before") == ["c" * 64, "b" * 64]
    assert "in a second call" in text


def test_unread_answers_show_what_came_back() -> None:
    """The completion and the reason where it is at hand, else where it is."""
    trial = make_missing("unparsed", "after")
    came = Completion(text="Answer: A or B\nExplanation: [bold]Hm.", finish_reason="stop")
    text = show(trial, options=ViewOptions(completions={"a" * 64: came}))

    assert "(unparsed): two different answers: A and B" in text
    assert row(text, "came back") == "Answer: A or B"
    assert "Explanation: [bold]Hm.  (finish reason: stop)" in text
    assert row(show(trial, options=ViewOptions(elsewhere="look there")), "came back") == "look there"
    assert "came back" not in show(make_missing("failed", "after"))


def test_all_answers_as_they_came() -> None:
    """With `answers` those that were read too."""
    found = {"a" * 64: Completion(text="after!"), "b" * 64: Completion(text="before!")}
    text = show(make_trial(), options=ViewOptions(answers=True, completions=found))

    assert (row(text, "came back"), row(text, "came back", 1)) == ("before!", "after!")
    assert "came back" not in show(make_trial(), options=ViewOptions(completions=found))


@pytest.mark.parametrize(
    ("completion", "changes", "reason"),
    [
        (Completion(text="Answer: A\nExplanation: so.", finish_reason="length"), {}, "token limit"),
        (Completion(text=None, refusal="No."), {}, "refused: No."),
        (Completion(text="Explanation: so."), {}, "answer"),
        (Completion(text="A or B"), {"order": "pe2", "label_after": None}, "two different answers"),
        (Completion(text="Answer: B\nExplanation: so."), {"order": "pe2", "label_after": "A"}, "contradicts"),
    ],
)
def test_why_it_could_not_be_read(completion: Completion, changes: dict[str, Any], reason: str) -> None:
    """The reason is that of the parser for this very call."""
    assert reason in (why_unread(completion, EXAMPLE, make_trial(**changes), "after") or "")


def test_what_can_be_read_has_no_reason() -> None:
    """Nothing is made up for a good answer."""
    assert why_unread(Completion(text="Answer: A\nExplanation: so."), EXAMPLE, make_trial(), "after") is None


def test_unread_names_the_key_of_the_last_call() -> None:
    """Only for a side without an explanation that was asked and answered."""
    assert unread(make_trial(), "after") is None
    assert unread(make_missing("unparsed", "after"), "after") == "a" * 64
    assert unread(make_missing("unparsed", "after"), "before") is None
    assert unread(make_missing("failed", "before"), "before") is None
    assert unread(make_missing("failed", "both"), "after") == "a" * 64


@pytest.mark.parametrize(
    ("changed", "mentioned", "sorts"),
    [
        (True, True, {"changed", "mentioned"}),
        (True, False, {"changed", "disagreeing"}),
        (False, True, {"mentioned", "disagreeing"}),
        (False, False, set()),
        (None, None, {"missing"}),
    ],
)
def test_only_some_sorts(changed: bool | None, mentioned: bool | None, sorts: set[str]) -> None:
    """A trial is of the sorts that its two facts make it."""
    status, side = ("ok", None) if changed is not None else ("empty", "after")
    one = make_trial(changed=changed, mentioned=mentioned, status=status, status_side=side)
    case = make_case(one, EDIT, "word", "word", lambda _: None)

    assert sorts == {only for only in ("changed", "mentioned", "disagreeing", "missing") if fits(case, only)}  # type: ignore[arg-type]
    assert fits(case, None)


def test_shown_cases_keep_their_numbers() -> None:
    """The third of three is still the third where it alone is shown."""
    trials = [make_trial(), make_trial(), make_trial(changed=True, label_after="B", intervention_id="e1.3")]
    text = show(*trials, only="changed")

    assert "\n3. hand: 'quick' into note  e1.3\n" in text
    assert "1. hand" not in text
    assert "3 interventions: 1 changed, 3 mentioned, 0 not scored; shown: 1 (--only changed)" in text


HOSTILE = "[red]not[/red] [link=x]y[/] :smile: \x1b[2J\x1b]0;title\x07 \x9b31m \u202eright\u2066 \r\x08 end"


@pytest.mark.parametrize("color", [False, True])
def test_texts_are_data(color: bool) -> None:
    """Markup stands as written and control characters are shown, in every place that a text comes to."""
    example = Example(
        id=HOSTILE, task=HOSTILE, fields={HOSTILE: HOSTILE}, options={"A": HOSTILE, "B": HOSTILE}, gold="A",
        explanation=HOSTILE, instruction=HOSTILE,
    )  # fmt: skip
    changes = dict.fromkeys(("endpoint", "model", "verbosity", "kind", "field", "inserted", "intervention_id"), HOSTILE)
    changes |= {"explanation": HOSTILE, "explanation_before": HOSTILE, "text_after": HOSTILE, "tvd_reason": HOSTILE}
    came = Completion(text=HOSTILE, finish_reason=HOSTILE)
    options = ViewOptions(color, answers=True, completions={"a" * 64: came, "b" * 64: came})
    text = render(example_view(example), width=400, color=color)
    text += show(make_trial(**changes, tvd=None), options=options, example=example, width=400)
    plain = ESCAPES.sub("", text) if color else text

    assert set(re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", plain)) == set()
    assert plain.count("[red]not[/red] [link=x]y[/] :smile: ␛[2J␛]0;title␇ \\x9b31m \\u202eright\\u2066 ␍␈ end") >= 17
    assert bool(ESCAPES.search(text)) == color


def test_marks_without_and_with_color() -> None:
    """Brackets on paper, reverse on a screen."""
    assert "He waits [[quickly]]." in show(make_trial())
    colored = show(make_trial(), options=ViewOptions(color=True))
    assert "\x1b[1;7mquickly\x1b[0m" in colored
    assert "[[" not in colored


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("İ𝒳 ﬁne: a quicker one", "İ𝒳 ﬁne: a [[quicker]] one"),
        ("e\u0301e\u0301 ＱＵＩＣＫ!", "e\u0301e\u0301 [[ＱＵＩＣＫ]]!"),
        ("👩‍👩‍👧 \x1b QUICK\x1b", "👩‍👩‍👧 ␛ [[QUICK]]␛"),
        ("中文 quick 中文", "中文 [[quick]] 中文"),
        ("\x9b\x9bquick\x9b", "\\x9b\\x9b[[quick]]\\x9b"),
    ],
)
def test_spans_count_code_points(text: str, marked: str) -> None:
    """Whatever comes before: wide signs, combining ones, signs that are shown as several."""
    shown = show(make_trial(explanation=text))

    assert marked == row(shown, "explains", 1)


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(["word", "lemma", "substring"]))
def test_a_decision_is_that_of_the_policy(head: str, tail: str, policy: Mention) -> None:
    """Its span is a piece of the text in which the policy finds the word."""
    text = f"{head}quick{tail}"
    decision = decide(policy, "hand", "quick", text, lambda _: None)

    assert decision is not None
    assert decision.mentioned == mentions(policy, "quick", text)
    assert (decision.span is not None) == decision.mentioned
    if decision.span is not None:
        assert 0 <= decision.span[0] < decision.span[1] <= len(text)


@given(st.text())
def test_visible_text_does_nothing(text: str) -> None:
    """No control character is left, and a text without any is as it was."""
    left = [sign for sign in flat(text) if ord(sign) < 32 or 127 <= ord(sign) < 160]

    assert left == []
    assert visible(visible(text)) == visible(text)
    if text.isprintable():
        assert visible(text) == text


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_is_wider_than_asked(width: int) -> None:
    """Long texts, names and wide signs are folded, and nothing of them is lost."""
    long = "word " * 60 + "ж" * 300 + "中" * 100
    text = show(make_trial(explanation=long, model="m" * 200, endpoint="e" * 90), width=width)
    cells = [sum(2 if sign == "中" else 1 for sign in line) for line in text.splitlines()]

    assert max(cells) <= width
    assert (text.count("ж"), text.count("中")) == (300, 100)
    assert text.count("m" * 40) >= 4


def test_the_document_holds_the_spans() -> None:
    """The trial as it stands in the file, and beside it where the word went and where it was found."""
    document = case_document(make_case(make_trial(), EDIT, "word", "word", lambda _: None))

    assert document["insertion"] == (4, 9)
    assert document["decision"] == {"mentioned": True, "rule": "policy word", "span": (9, 16), "matched": "quickly"}
    assert document["decision_before"] == {"mentioned": False, "rule": "policy word", "span": None, "matched": None}
    assert (document["explanation"], document["target"]) == ("He waits quickly.", None)


def test_reasoning_is_shown_before_the_explanation() -> None:
    """Of both inputs; in order pe2 the explaining call's too; without control characters."""
    text = show(
        make_trial(
            order="pe2", reasoning_before="Rain, then A.", reasoning="Quick, \x1b[31mA.",
            reasoning_explanation_before="Say rain.", reasoning_explanation="Say quick.",
        )
    )  # fmt: skip

    assert [row(text, "reasoning", nth) for nth in (0, 1)] == ["Rain, then A.", "[[Quick]], ␛[31mA."]
    assert [row(text, "reasoning (2)", nth) for nth in (0, 1)] == ["Say rain.", "Say quick."]
    assert "mentioned in the reasoning: 'Quick' matches 'quick' (policy word)" in text
    assert text.index("Say quick.") < text.index("He waits [[quickly]].")
    assert "reasoning" not in show(make_trial())


def test_long_reasoning_is_cut_unless_all_is_wanted() -> None:
    """Its beginning and how much there is; --answers shows it whole."""
    trial = make_trial(reasoning="rain " * 1000 + "end")

    cut, whole = show(trial), show(trial, options=ViewOptions(answers=True))
    assert "(5,003 characters; --answers shows all)" in " ".join(cut.split())
    assert (cut.count("rain"), whole.count("rain")) == (120, 1000)
    assert ("end" in cut.split(), "end" in whole.split()) == (False, True)
