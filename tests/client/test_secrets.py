"""Secrets: found in every spelling and by every long piece, and nothing else is touched."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import EndpointError
from explaineval.secrets import NAMES, NO_SECRETS, PIECE, SECRETS, Secrets

KEY = 'sk-proj-Ab3+/x"Yz\\9_Qé7-LmNoP4rStUvWxYz01'


def knowing(*values: str) -> Secrets:
    """A set of these secrets."""
    known = Secrets()
    for value in values:
        known.add(value)
    return known


SPELLINGS = {
    "plain": KEY,
    "upper case": KEY.upper(),
    "JSON": json.dumps(KEY)[1:-1],
    "JSON in JSON": json.dumps(json.dumps(json.dumps(KEY)))[1:-1],
    "all \\u": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "slashes": KEY.replace("/", "\\/"),
    "URL": quote(KEY.encode("latin-1"), safe=""),
    "URL in lower case": re.sub("%..", lambda m: m.group().lower(), quote(KEY.encode("latin-1"), safe="")),
    "every character in the URL": "".join(f"%{ord(letter):02X}" for letter in KEY),
    "HTML": KEY.replace('"', "&quot;").replace("-", "&#45;"),
    "repr": repr(KEY),
    "Basic": "Basic " + base64.b64encode(f":{KEY}".encode()).decode(),
    "Basic with a user": base64.b64encode(f"lab:{KEY}".encode()).decode(),
    "Bearer": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_masked(spelling: str) -> None:
    """Whichever way a server writes the key down, nothing of it is left and the text around it stays."""
    written = SPELLINGS[spelling]
    masked = knowing(KEY).mask(f"got <{written}>, why?")

    assert masked.startswith("got <")
    assert masked.endswith(">, why?")
    assert "***" in masked
    left = masked.removeprefix("got <").removesuffix(">, why?")
    assert written[len(written) // 2 :][:PIECE] not in left
    assert len(left.replace("*", "")) < PIECE + 4  # what stands before and behind the key in a header


@given(st.integers(0, len(KEY) - PIECE), st.integers(PIECE, len(KEY)), st.text(max_size=30), st.text(max_size=30))
def test_every_piece_of_twelve_is_masked(start: int, length: int, before: str, after: str) -> None:
    """A piece in any surroundings; eleven characters may be a coincidence."""
    piece = KEY[start : start + length]
    masked = knowing(KEY).mask(before + piece + after)

    if len(piece) >= PIECE:
        assert not any(KEY[at : at + PIECE] in masked for at in range(len(KEY) - PIECE + 1))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Not one character of a text without the secret changes."""
    assert knowing("Zq9#vN2!kLm8@wXy7$", "another-0987-secret").mask(text) == text


def test_the_length_can_be_kept() -> None:
    """Offsets into an answer stay right where as many asterisks stand in the place of the secret."""
    text = f"a {KEY} b"

    assert knowing(KEY).mask(text, keep_length=True) == f"a {'*' * len(KEY)} b"


def test_values_are_masked_throughout() -> None:
    """Names and texts of a JSON value, at every depth."""
    value = {"a": [KEY, 1, None], KEY: ({"b": f"x{KEY}"},)}

    assert knowing(KEY).mask_value(value) == {"a": ["***", 1, None], "***": ({"b": "x***"},)}


@pytest.mark.parametrize("value", ["", "none", "EMPTY", "ollama", "sk-no-key-required", "test", "word", "letters"])
def test_placeholders_and_words_are_no_secrets(value: str) -> None:
    """What people write where no key is wanted would blank out plain words of answers."""
    text = f"The {value} is a plain {value}."

    assert knowing(value).mask(text) == text


@pytest.mark.parametrize("value", ["s3cret", "hunter2!", "abcdefgh", "elevenchars", "twelve-chars", "k" * 64])
def test_short_keys_are_masked_as_a_whole(value: str) -> None:
    """A key that is shorter than a piece counts as a whole."""
    assert value not in knowing(value).mask(f"key {value} and {json.dumps(value)}")


def test_an_environment_is_searched_for_secrets() -> None:
    """Names of keys, tokens and passwords; no paths, addresses, names of variables and short words."""
    environment = {
        "OPENAI_API_KEY": "sk-one-11111111",
        "AZURE_AD_TOKEN": "eyJ0wo-22222222222",
        "AWS_SECRET_ACCESS_KEY": "three/3333333333+3333",
        "WATSONX_APIKEY": "fourfourfour",
        "VERTEX_CREDENTIALS": json.dumps({"type": "service_account", "private_key": "-----BEGIN five 5555555-----"}),
        "SSH_AUTH_SOCK": "/run/ssh-agent/socket.1234",
        "EXPLAINEVAL_API_KEY_ENV": "OPENAI_API_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/lab/credentials-0123456789.json",
        "LAB_AUTH": "disabled",
        "HOME": "/home/laboratory-0123456789",
    }
    known = Secrets()
    known.learn(environment)
    masked = {name: known.mask(value) for name, value in environment.items()}

    assert {name for name, value in masked.items() if value != environment[name]} == {
        "OPENAI_API_KEY", "AZURE_AD_TOKEN", "AWS_SECRET_ACCESS_KEY", "WATSONX_APIKEY", "VERTEX_CREDENTIALS",
    }  # fmt: skip
    assert "service_account" in masked["VERTEX_CREDENTIALS"]


def test_every_key_that_litellm_looks_up_has_a_name_of_a_secret() -> None:
    """The variables are read out of litellm's own source: a new provider's key is known without a list of ours."""
    import importlib.util

    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    found: set[str] = set()
    pattern = re.compile(r"(?:get_secret(?:_str)?|getenv|environ\.get)\(\s*\"([A-Z0-9_]+)\"")
    for path in (Path(spec.origin).parent / "llms").rglob("*.py"):
        found.update(pattern.findall(path.read_text(encoding="utf-8")))
    keys = {name for name in found if name.endswith(("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS", "JWT"))}
    unknown = {name for name in keys if not NAMES.search(name) or NO_SECRETS.search(name)}

    assert len(keys) > 80
    assert unknown == set()


def test_every_error_of_ours_is_masked_when_it_is_read() -> None:
    """Whoever raised it, and whatever it holds: its sentence is read without the key."""
    SECRETS.add("planted-1b2c-in-an-error-3d4e")

    assert str(EndpointError("no: planted-1b2c-in-an-error-3d4e.")) == "no: ***."
