"""What is said of arms whose answers cannot be read."""

from __future__ import annotations

from explaineval.planning.notes import unreadable_notes
from explaineval.rundir.schema import UnreadableArm


def arm(verbosity: str, unreadable: int, style: str = "chat") -> UnreadableArm:
    """An arm that was asked no further."""
    counts = {"checked": 40, "unreadable": unreadable, "statuses": {"unparsed": unreadable}}
    place = {"order": "pe2", "style": style, "shots": 0, "verbosity": verbosity}
    return UnreadableArm.model_validate({**place, **counts, "example": f"So {verbosity}.", "stopped": True})


def test_arms_that_differ_in_verbosity_alone_are_told_once() -> None:
    """With the levels, the counts of each in their order, and one example; another style is another note."""
    arms = [arm("normal", 40), arm("brief", 39), arm("normal", 38, "completion")]
    told = [note.text for note in unreadable_notes("openai/m", arms, name_arms=True)]

    assert len(told) == 2
    assert told[0].startswith(
        "openai/m (order pe2, chat, 0 shots, verbosity normal and brief): 40 and 39 of the first 40 answers cannot be "
        "read (79 unparsed), for example 'So normal.'."
    )
    assert "completion, 0 shots, verbosity normal): 38 of the first 40" in told[1]
