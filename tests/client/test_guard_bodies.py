"""How much of a body is ever received or parsed."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from explaineval.client.endpoints.bodies import (
    MOST_BYTES,
    MOST_NESTED,
    MOST_OF_ERROR,
    VALUE_BYTES,
    Body,
    Bounds,
    EncodingError,
    Inflater,
    OverBoundsError,
    UnderWay,
    bounds_of,
    check_answer,
    measure,
)
from explaineval.client.responses import read_response
from explaineval.records import Style
from servers import replies
from servers.floods import bomb, crowd, nest, plain

TRICKY = ['"', '\\"', "\\\\", '\\\\"', "[{,", '[[["', "]}", "\\u005b", '"choices": [', "ü[", "\n"]


def test_bounds_grow_with_the_token_limit_up_to_ten_megabytes() -> None:
    """1 MB + 4 kB a token, at most 10 MB."""
    assert bounds_of(1).most_bytes == 1_004_000
    assert bounds_of(1_000_000).most_bytes == MOST_BYTES == 10_000_000


def count_values(found: object) -> int:
    """Values the slow way."""
    if isinstance(found, dict):
        return 1 + sum(map(count_values, found.values()))
    if isinstance(found, list):
        return 1 + sum(map(count_values, found))
    return 1


@pytest.mark.parametrize("text", TRICKY)
@pytest.mark.parametrize("times", [1, 200])
def test_no_text_inside_strings_is_taken_for_structure(text: str, times: int) -> None:
    """Brackets, quotes and backslashes in an answer's text are letters, however many they are."""
    body = json.dumps({"choices": [{"message": {"content": text * times}}], text: 1}).encode()

    assert count_values(json.loads(body)) <= measure(body, 100) <= 100
    assert check_answer(body, Bounds(most_values=100))[0] == body


@pytest.mark.parametrize("text", TRICKY)
def test_every_value_is_counted(text: str) -> None:
    """Values between tricky strings cannot hide."""
    body = json.dumps([text, *range(500), text, {text: text}] * 3).encode()

    assert measure(body, 10_000) >= count_values(json.loads(body))
    with pytest.raises(OverBoundsError):
        measure(body, 1_000)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("depth", [MOST_NESTED + 1, 1_000, 1_000_000])
@pytest.mark.parametrize("closed", [True, False])
def test_deep_nesting_is_found_before_anything_is_parsed(depth: int, closed: bool) -> None:
    """In arrays, objects, mixed, and where the body breaks off."""
    bodies = [nest(depth), b'{"a":' * depth + b"1" + b"}" * depth, b'[{"a":' * depth + b"1" + b"}]" * depth]
    for body in bodies:
        with pytest.raises(OverBoundsError):
            measure(body if closed else body.rstrip(b"]}"), 10_000_000)


def test_what_is_nested_as_answers_are_is_let_through() -> None:
    """Up to the bound, whatever stands beside it."""
    body = b"[" + b",".join([b"[" * 60 + b"]" * 60] * 100) + b"]"

    assert measure(body, 10_000) == 1 + 100 * 60 + 99 + 1


def test_a_crowd_of_choices_is_refused() -> None:
    """Whatever the provider calls them."""
    for name in ("choices", "candidates", "generations"):
        with pytest.raises(OverBoundsError, match="choices"):
            check_answer(crowd(500).replace(b"choices", name.encode()), Bounds())
    assert check_answer(crowd(5), Bounds())[0] == crowd(5)


@pytest.mark.parametrize("times", [1, 60])
@pytest.mark.parametrize("shape", ["content", "lists"])
def test_alternatives_that_nobody_reads_are_left_out(shape: str, times: int) -> None:
    """Those at tokens that are no letter, before the answer is parsed again, in short and in long answers."""
    spelled = replies.spell_tokens("Answer: A\nExplanation: It may rain. " * times, "pe", {"A": 0.6, "B": 0.3}, 5)
    tokens = [(piece, [*top, *((f" word{number}", -9.0) for number in range(15))]) for piece, top in spelled]
    style: Style = "chat" if shape == "content" else "completion"
    logprobs = (replies.content_logprobs if shape == "content" else replies.list_logprobs)(tokens)
    text = "".join(piece for piece, _ in tokens)
    body = json.dumps(replies.body(style, "m", text, "stop", logprobs)).encode()
    values = measure(body, 1_000_000)
    lean, memory, _ = check_answer(body, bounds_of(512, 20) if times == 1 else Bounds(most_besides=values // 2))

    assert len(lean) < len(body) // 2
    assert memory < values * VALUE_BYTES // 2
    assert read_response(json.loads(lean), style) == read_response(json.loads(body), style)


def test_an_answer_without_log_probabilities_is_left_as_it_is() -> None:
    """However long."""
    body = plain()[:-1] + b', "more": [' + b"[]," * 500 + b"[]]}"

    assert check_answer(body, bounds_of(512))[0] == body


def test_bulk_outside_of_logprobs_is_refused() -> None:
    """However many values its logprobs may have."""
    body = plain()[:-1] + b', "more": [' + b"[]," * 50_000 + b"[]]}"

    with pytest.raises(OverBoundsError):
        check_answer(body, bounds_of(512, 20))


def test_what_is_no_json_is_cut() -> None:
    """A page of a megabyte is read no further than for a message; UTF-16, which hides its brackets, too."""
    for body in (b"<html>" * 200_000, json.dumps(["x"] * 90_000).encode("utf-16")):
        assert check_answer(body, Bounds())[0] == body[:MOST_OF_ERROR]


def test_server_sent_events_stay_whole() -> None:
    """A cut one would be a shorter answer."""
    body = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n' * 3_000

    assert check_answer(body, Bounds())[0] == body


def test_a_bomb_is_stopped_while_it_grows() -> None:
    """A quarter of a gigabyte in a quarter of a megabyte: never more than the bound is held."""
    body = Body("gzip", 1_000_000)

    with pytest.raises(OverBoundsError):
        body.take(bomb())
    assert body.size <= 1_000_000 + 65_536


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", plain()),
        ("identity", plain()),
        ("gzip", gzip.compress(plain())),
        ("X-GZip", gzip.compress(plain())),
        ("deflate", zlib.compress(plain())),
        ("deflate", zlib.compress(plain())[2:-4]),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_was_packed_comes_out_again(encoding: str, packed: bytes, size: int) -> None:
    """In pieces of any size."""
    body = Body(encoding, 1_000_000)
    for start in range(0, len(packed), size):
        body.take(packed[start : start + size])

    assert body.clear() == plain()


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_an_encoding_that_nobody_asked_for_is_refused(encoding: str) -> None:
    """None of their libraries is asked to unpack without a bound."""
    with pytest.raises(EncodingError):
        Inflater(encoding)


def test_damaged_compression_is_an_encoding_error() -> None:
    """And no crash."""
    with pytest.raises(EncodingError):
        Body("gzip", 1_000).take(b"this is no gzip at all")


def test_beyond_the_total_only_the_first_may_go_on() -> None:
    """So that one always ends, and the others wait for it."""
    under_way = UnderWay(most=100)

    assert under_way.try_hold(1, 60)
    assert under_way.try_hold(2, 30)
    assert not under_way.try_hold(2, 30)
    assert not under_way.try_hold(3, 11)
    assert under_way.try_hold(1, 60)
    under_way.release(1)
    assert under_way.try_hold(2, 30)
    assert not under_way.try_hold(3, 41)
