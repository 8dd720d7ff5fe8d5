"""One spelling for each address, and the product of all arms."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.config import Endpoint, ModelConfig, RunConfig, arms_for, normalise_url, older_spelling
from explaineval.errors import InputError

HOSTS = st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,8}(\.[a-zA-Z]{2,5})?", fullmatch=True) | st.sampled_from(
    ["127.0.0.1", "10.0.0.7", "[::1]", "[2001:DB8::1]"]
)
PATHS = st.lists(
    st.from_regex(r"[A-Za-z0-9._~-]{1,6}", fullmatch=True).filter(lambda part: part.strip(".")), max_size=3
)


@st.composite
def addresses(draw: st.DrawFn) -> tuple[str, str, int, list[str]]:
    """Scheme, host, port and path segments."""
    scheme = draw(st.sampled_from(["http", "https"]))
    return scheme, draw(HOSTS), draw(st.integers(1, 65535)), draw(PATHS)


@given(address=addresses(), slashes=st.integers(0, 2), swap=st.booleans(), spaces=st.booleans())
def test_all_spellings_of_an_address_are_one(
    address: tuple[str, str, int, list[str]], slashes: int, swap: bool, spaces: bool
) -> None:
    """Case of scheme and host, slashes at the end and a default port make no difference; the path's case does."""
    scheme, host, port, parts = address
    path = "".join(f"/{part}" for part in parts)
    default = {"http": 80, "https": 443}[scheme]
    plain = normalise_url(f"{scheme}://{host}:{port}{path}")
    spelled = f"{scheme.upper() if swap else scheme}://{host.swapcase() if swap else host}:{port}{path}{'/' * slashes}"

    assert plain == normalise_url(f" {spelled}\n" if spaces else spelled)
    assert plain == normalise_url(plain)
    assert path == urlsplit(plain).path
    assert host.strip("[]").lower() == urlsplit(plain).hostname
    assert (port if port != default else None) == urlsplit(plain).port
    assert normalise_url(f"{scheme}://{host}{path}") == normalise_url(f"{scheme}://{host}:{default}{path}")


@pytest.mark.parametrize(
    "host",
    ["xn--", "xn--\\", "。", "a b", "127.0.0.2443", "127.1", "2130706433", "x\x01y", "a\\b", "...",
     "a..b", "a" * 300, "é\\v1", "\xad", "-．."],
)  # fmt: skip
def test_a_host_that_no_client_takes_is_refused(host: str) -> None:
    """It would end in an error of the HTTP client, when a request is sent or before."""
    with pytest.raises(InputError, match="has no usable host name"):
        normalise_url(f"http://{host}/v1")


@pytest.mark.parametrize("host", ["my_host-1.lan.", "bücher.example", "xn--bcher-kva.example", "[::1]:8", "10.0.0.7:1"])
def test_other_hosts_are_taken(host: str) -> None:
    """International names, names of a local network, addresses."""
    assert normalise_url(f"http://{host}/v1") == f"http://{host}/v1"
    assert httpx.URL(f"http://{host}/v1").host


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http:///v1", "http://host:port/v1", "http://host:99999/v1",
     "http://[::1/v1", "http://user:secret@host/v1", "http://secret@host/v1", "http://host/v1?key=secret",
     "http://host/v1#secret"],
)  # fmt: skip
def test_what_is_no_base_url_is_refused(url: str) -> None:
    """No scheme, no host, no port, and nothing that could be a secret."""
    with pytest.raises(InputError, match="base URL"):
        normalise_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/./v1", "http://h/v1"), ("http://h/v1/.", "http://h/v1"), ("http://h/a/../v1", "http://h/v1"),
        ("http://h/../v1", "http://h/v1"), ("http://h/%76%31", "http://h/v1"), ("http://h/%2e/v1", "http://h/v1"),
        ("http://h/a/%2E%2e/v1", "http://h/v1"), ("http://h/%7Eme", "http://h/~me"), ("http://h/a%2fb", "http://h/a%2Fb"),
        ("http://h/%C3%bc", "http://h/%C3%BC"), ("http://h/ü", "http://h/%C3%BC"), ("http://h/a b", "http://h/a%20b"),
        ("http://h/v1//", "http://h/v1"), ("http://h//", "http://h"), ("http://h/...", "http://h/..."),
        ("http://h/v1:beta@x,y;z", "http://h/v1:beta@x,y;z"),
    ],
)  # fmt: skip
def test_a_path_has_one_spelling(url: str, expected: str) -> None:
    """Dot segments go, percent-escapes stand only where they are needed."""
    assert normalise_url(url) == expected == normalise_url(expected)


@pytest.mark.parametrize("url", ["http://h//v1", "http://h/a//b", "http://h/a/.//b", "http://h/%2E//b"])
def test_double_slashes_in_a_path_are_refused(url: str) -> None:
    """Some servers take them for one slash, others do not."""
    with pytest.raises(InputError, match="single slashes"):
        normalise_url(url)


@given(address=addresses())
def test_the_older_spelling_of_a_plain_address_is_the_same(address: tuple[str, str, int, list[str]]) -> None:
    """Keys of addresses that were written plainly do not move."""
    scheme, host, port, parts = address
    url = f"{scheme}://{host}:{port}" + "".join(f"/{part}" for part in parts)

    assert older_spelling(url) == normalise_url(url)


@pytest.mark.parametrize("url", ["http://user:hunter2@host/v1", "http://host/v1?key=hunter2", "http://host/#hunter2"])
def test_a_secret_in_a_url_is_not_repeated(url: str) -> None:
    """The message says what is wrong without showing it."""
    with pytest.raises(InputError) as caught:
        normalise_url(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://127.0.0.1:1/v1", True), ("http://localhost/v1", True), ("http://[::1]:8/v1", True),
        ("http://192.168.3.4/v1", True), ("http://10.1.2.3/v1", True), ("https://8.8.8.8/v1", False),
        ("https://api.example.org/v1", False), ("https://localhost.example.org/v1", False), (None, False),
    ],
)  # fmt: skip
def test_private_addresses_are_known(url: str | None, private: bool) -> None:
    """Loopback and private addresses cost nothing."""
    assert private is Endpoint(base_url=url).private


@given(
    orders=st.lists(st.sampled_from(["pe", "ep"]), min_size=1, unique=True),
    styles=st.lists(st.sampled_from(["chat", "completion"]), min_size=1, unique=True),
    shots=st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
    levels=st.lists(st.sampled_from(["brief", "normal", "detailed"]), min_size=1, unique=True),
    own_style=st.sampled_from([None, "chat", "completion"]),
    own_shots=st.none() | st.integers(0, 9),
)
def test_arms_are_the_full_product(
    orders: list[str],
    styles: list[str],
    shots: list[int] | None,
    levels: list[str],
    own_style: Any,
    own_shots: int | None,
) -> None:
    """Every combination once; a model's own style and shots replace the run's; shots default by style."""
    arms = {"order": orders, "style": styles, "verbosity": levels, "shots": shots}
    model = ModelConfig(model="a/b", style=own_style, shots=own_shots)
    config = RunConfig.model_validate({"tasks": ["nli"], "models": [model], "arms": arms})
    expected = set()
    for order, style, level in itertools.product(orders, [own_style] if own_style else styles, levels):
        counts = [own_shots] if own_shots is not None else (shots or [8 if style == "completion" else 0])
        expected |= {(order, style, count, level) for count in counts}

    found = [(arm.order, arm.style, arm.shots, arm.verbosity) for arm in arms_for(config, model)]

    assert expected == set(found)
    assert len(expected) == len(found)
