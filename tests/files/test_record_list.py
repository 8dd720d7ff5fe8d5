"""Long lists of records: what they give is the same whether they are held as objects or in a file."""

from __future__ import annotations

import pytest

from explaineval import spill
from explaineval.records import Example
from explaineval.spill import (
    Digests,
    NumberPlaces,
    NumberSet,
    RecordGroups,
    RecordList,
    RecordsByKey,
    json_lines,
    select,
    short_digest,
)

COUNT = 700


def example(number: int) -> Example:
    """An example whose text has letters beyond ASCII, and more than a block of the file for all together."""
    text = f"Fall {number}: Straße, 例, 🙂" * (1 + number % 40)
    return Example(id=f"x{number}", task="abc"[number % 3], fields={"note": text}, options={"A": "yes", "B": "no"})


EXAMPLES = [example(number) for number in range(COUNT)]


@pytest.fixture(params=[10, 5 * COUNT], ids=["in a file", "held"])
def _held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD", request.param)


@pytest.mark.usefixtures("_held")
def test_a_list_gives_back_what_was_added() -> None:
    """Records come back equal, by place, by slice, in selections, in any order, and while more are added."""
    records = RecordList(Example, EXAMPLES[:300])
    assert records[299] == EXAMPLES[299]
    for one in EXAMPLES[300:]:
        records.append(one)

    assert list(records) == EXAMPLES
    assert records == EXAMPLES
    assert records != EXAMPLES[:-1]
    assert records[-1] == EXAMPLES[-1]
    assert list(records[5:400:7]) == EXAMPLES[5:400:7]
    assert [records[place] for place in (650, 3, 649, 3)] == [EXAMPLES[place] for place in (650, 3, 649, 3)]
    assert select(records, [650, 2, 2]) == [EXAMPLES[650], EXAMPLES[2], EXAMPLES[2]]
    assert list(json_lines(records)) == [one.model_dump_json().encode() for one in EXAMPLES]
    with pytest.raises(IndexError):
        records[COUNT]


@pytest.mark.usefixtures("_held")
def test_records_are_found_by_their_keys() -> None:
    """A key leads to its record, and an unknown key to none."""
    by_id = RecordsByKey(RecordList(Example, EXAMPLES), lambda one: one.id)

    assert all(by_id[one.id] == one for one in EXAMPLES)
    assert list(by_id) == [one.id for one in EXAMPLES]
    assert "x-1" not in by_id
    assert by_id.get("") is None


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("most", [None, 2])
def test_groups_are_those_of_a_dictionary(most: int | None) -> None:
    """Groups stand in the order of their first records, also where records of one group do not follow each other."""
    groups = RecordGroups(Example, lambda one: (one.task, one.options["A"]), most)
    expected: dict[tuple[str, str], list[Example]] = {}
    for one in EXAMPLES:
        changed = one.model_copy(update={"options": {"A": f"yes {len(one.fields['note']) % 5}"}})
        groups.append(changed)
        expected.setdefault((changed.task, changed.options["A"]), []).append(changed)
    expected = {key: group[:most] for key, group in expected.items()}

    assert list(groups.items()) == list(expected.items())
    assert list(groups) == list(expected)
    assert list(groups.values()) == list(expected.values())
    assert len(groups) == len(expected)
    assert all(groups[key] == group for key, group in expected.items())
    assert ("a", "no") not in groups
    assert not RecordGroups(Example, lambda one: (one.task, one.id))


@pytest.mark.usefixtures("_held")
def test_keys_whose_hashes_begin_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are looked up by the first half of a hash: where two keys share it, each leads to its own records."""
    monkeypatch.setattr(spill, "_hash", lambda *key: (len(key[0]), int.from_bytes(key[0].encode())))
    by_id = RecordsByKey(RecordList(Example, EXAMPLES[:50]), lambda one: one.id)
    groups = RecordGroups(Example, lambda one: (one.task, ""))
    for one in EXAMPLES[:50]:
        groups.append(one)

    assert all(by_id[one.id] == one for one in EXAMPLES[:50])
    assert "xx" not in by_id
    assert groups["b", ""] == EXAMPLES[1:50:3]
    assert ("d", "") not in groups


def test_a_set_of_numbers_is_a_set() -> None:
    """Numbers are new once: 0, the largest one, and those that fall on the same place of the table."""
    numbers = [0, 2**64 - 1, *range(0, 5000 * 1024, 1024), *(place**5 for place in range(3000))]
    held, expected = NumberSet(), set[int]()
    for number in [*numbers, *numbers]:
        assert held.add(number) == (number not in expected)
        expected.add(number)

    assert len(held) == len(expected)
    assert all(number in held for number in expected)
    assert all((number in held) == (number in expected) for number in range(1, 20_000))


def test_places_of_numbers_are_those_of_first_appearance() -> None:
    """Each number keeps its place, as in a dictionary: 0, the largest, and those that share a place of the table."""
    numbers = [2**64 - 1, 0, *range(0, 5000 * 1024, 1024), *(place**5 for place in range(3000))]
    places, expected = NumberPlaces(), dict[int, int]()
    for number in [*numbers, *numbers]:
        assert places.place(number) == expected.setdefault(number, len(expected))
    assert len(places) == len(expected)


def test_digests_of_several_texts_tell_them_apart() -> None:
    """Where one text ends and the next begins counts, and half a surrogate pair has a digest too."""
    texts = [("ab", "c"), ("a", "bc"), ("abc",), ("\ud800", "c"), ("", "abc")]
    found = {short_digest(*each) for each in texts}

    assert len(found) == len(texts)
    assert all(0 <= number < 2**64 for number in found)


def test_digests_find_what_repeats_and_what_is_missing() -> None:
    """The first text that stood before is found, and texts that others lack are counted as often as they stand."""
    texts = [f"{number}".encode() for number in range(2000)]

    assert Digests(texts).first_repeated() is None
    assert Digests([]).first_repeated() is None
    assert Digests([*texts, b"1999", b"0"]).first_repeated() == 2000
    assert Digests([b"b", b"a", b"b", b"b", b"a"]).first_repeated() == 2
    assert Digests(texts[:1500]).count_missing(Digests([*texts, b"1999"])) == 501
    assert Digests(texts).count_missing(Digests([])) == 0
    assert Digests([]).count_missing(Digests(texts)) == 2000
