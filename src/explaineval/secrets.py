"""Mask values that must never be shown or stored: the keys of endpoints, and other secrets of the environment.

There is one set for the whole process instead of an argument, since a key that was read anywhere must be masked
everywhere, also by code that does not know of it (an error caught at the very end, a document written by another
layer). Values are only ever added. Masking depends on the text and the set alone.

A secret is recognised as it is, escaped (JSON, URL, HTML, also repeatedly), in base64 (as in Basic and Bearer headers)
and in hexadecimal digits, in upper or lower case, and by any piece of 12 or more characters in a row.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

PIECE = 12
"""Characters of a secret in a row that count as a piece of it; fewer may be a coincidence."""
BLOCK = 6
"""Characters of the blocks that a text is split into to be searched; a piece of 12 holds at least one whole block."""
MASK = "***"
MOST_ESCAPES = 4
"""How often a secret that is recognised may have been escaped."""

PLACEHOLDERS = frozenset(
    {"none", "null", "empty", "dummy", "fake", "test", "anything", "placeholder", "ollama", "lm-studio", "lmstudio"}
    | {"not-needed", "no-key", "nokey", "no-key-required", "sk-no-key-required", "unused", "changeme", "password"}
    | {"undefined", "xxxxxxxx", "token-abc123"}
)
"""Values that documentation suggests for servers without keys: they are no secrets, and words of plain texts."""

NAMES = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|BEARER|AUTH|JWT|LICENSE)S?(_|$)", re.IGNORECASE
)
NO_SECRETS = re.compile(r"_(ENV|NAME|FILE|PATH|DIR|DIRS|URL|URI|HOST|SOCK|BASE|INTERVAL|NAMESPACE)$", re.IGNORECASE)
API_KEYS = re.compile(r"API_?KEY$", re.IGNORECASE)
PATHS = ("/", "~", "./", "../", "http://", "https://")

_ESCAPE = re.compile(
    r"%([0-9a-f]{2})|\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|&#x([0-9a-f]{1,6});|&#([0-9]{1,7});|&(amp|quot|lt|gt|apos);"
    r"|\\(.)",
    re.IGNORECASE | re.DOTALL,
)
_ENTITIES = {"amp": "&", "quot": '"', "lt": "<", "gt": ">", "apos": "'"}
_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", "abcdefghijklmnopqrstuvwxyz+/")
"""Maps upper to lower case, and the URL-safe alphabet of base64 to the usual one."""


class Secrets:
    """A set of secrets, and the masking of texts that hold them."""

    def __init__(self) -> None:
        self._values: frozenset[str] = frozenset()
        self._blocks: dict[str, list[tuple[str, int, int]]] = {}
        """Block of six characters → (form of a secret, index of the block in it, fewest characters of a piece)."""
        self._short: frozenset[str] = frozenset()
        """Forms that are too short for blocks: searched for as a whole."""

    def add(self, value: str | None) -> None:
        """Add a key that was read, unless it is a placeholder or so short that it could be an ordinary word."""
        value = (value or "").strip()
        if value in self._values or value.lower() in PLACEHOLDERS:
            return
        if len(value) < BLOCK or (value.isalpha() and len(value) < 8):
            return
        blocks, short = {block: [*places] for block, places in self._blocks.items()}, set(self._short)
        for form, fewest in _forms(value):
            if fewest < 2 * BLOCK - 1:
                short.add(form)
                continue
            for at in range(len(form) - BLOCK + 1):
                blocks.setdefault(form[at : at + BLOCK], []).append((form, at, fewest))
        self._values |= {value}
        self._blocks, self._short = blocks, frozenset(short)

    def learn(self, environment: Mapping[str, str]) -> None:
        """Add what an environment holds under names of keys, tokens and passwords, which litellm reads itself."""
        for name, value in environment.items():
            if not NAMES.search(name) or NO_SECRETS.search(name) or value.startswith(PATHS) or value in environment:
                continue
            for secret in _secrets_in(value):
                likely = len(secret) >= 16 or (len(secret) >= 8 and any(letter.isdigit() for letter in secret))
                if likely or API_KEYS.search(name):
                    self.add(secret)

    def whole_in(self, folded: str) -> bool:
        """Return whether the whole of a secret stands in a text that `_FOLD` translated, plain or encoded."""
        return any(form in folded for value in self._values for form in _folded_forms(value))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to mask."""
        return not self._values

    def mask(self, text: str, *, keep_length: bool = False) -> str:
        """Replace every secret and piece of one by asterisks; with `keep_length`, by one for each character."""
        spans = list(self._spans(text))
        if not spans:
            return text
        parts, end = [], 0
        for start, stop in _merge(spans):
            parts += [text[end:start], "*" * (stop - start) if keep_length else MASK]
            end = stop
        return "".join(parts) + text[end:]

    def mask_value(self, value: Any, *, keep_length: bool = False) -> Any:
        """Mask every text in a JSON value, names included."""
        if isinstance(value, str):
            return self.mask(value, keep_length=keep_length)
        if isinstance(value, Mapping):
            return {
                self.mask_value(name, keep_length=keep_length): self.mask_value(inner, keep_length=keep_length)
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            inside = [self.mask_value(inner, keep_length=keep_length) for inner in value]
            return tuple(inside) if isinstance(value, tuple) else inside
        return value

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every secret in the text, also of those in escaped characters."""
        if not self._values or len(text) < BLOCK:
            return
        view, places = text, None
        for _ in range(MOST_ESCAPES + 1):
            folded = view.translate(_FOLD)
            spans = list(self._find(folded))
            if spans and places is None and view is not text:
                places = _places(text, view)
            for start, stop in spans:
                yield (start, stop) if places is None else (places[start][0], places[stop - 1][1])
            if not any(sign in view for sign in "%\\&"):
                return
            deeper = _ESCAPE.sub(_unescape, view)
            if deeper == view:
                return
            view, places = deeper, None

    def _find(self, folded: str) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every secret and piece in a text translated by `_FOLD`."""
        for form in self._short:
            at = folded.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = folded.find(form, at + 1)
        done = 0
        for block in range(0, len(folded) - BLOCK + 1, BLOCK):
            candidates = self._blocks.get(folded[block : block + BLOCK])
            if candidates is None or block + BLOCK <= done:
                continue
            for form, at, fewest in candidates:
                start, stop = _extend(folded, block, form, at)
                if stop - start >= fewest:
                    done = max(done, stop)
                    yield start, stop


SECRETS = Secrets()
"""The secrets of this process."""


def find_secret(text: str, environment: Mapping[str, str], expected: str) -> str | None:
    """Return the name of a variable whose secret stands in a text beside the `expected` key, if there is one."""
    folded = text.translate(_FOLD)
    for name, value in environment.items():
        secrets = _learned(name, value)
        if not secrets.empty and value.strip() not in expected and secrets.whole_in(folded):
            return name
    return None


def holds_key(text: str, key: str) -> bool:
    """Return whether a header holds this key, as it is or in base64."""
    return key != "" and (key in text or any(form in text.translate(_FOLD) for form in _folded_forms(key)))


@lru_cache(maxsize=1024)
def _learned(name: str, value: str) -> Secrets:
    """Return the secrets in one variable."""
    secrets = Secrets()
    secrets.learn({name: value})
    return secrets


@lru_cache(maxsize=1024)
def _folded_forms(value: str) -> tuple[str, ...]:
    return tuple(form for form, _ in _forms(value))


def _secrets_in(value: str) -> Iterable[str]:
    """Return the value itself, or the secrets in it where it is a JSON object, such as that of a service account."""
    if not value.lstrip().startswith("{"):
        return (value,)
    try:
        document = json.loads(value)
    except ValueError:
        return (value,)
    return [inner for name, inner in document.items() if isinstance(inner, str) and NAMES.search(name)]


def _forms(value: str) -> Iterator[tuple[str, int]]:
    """Yield the ways to write a secret, translated by `_FOLD`, each with the fewest characters of a piece of it."""
    raw = value.encode("utf-8", "surrogatepass")
    yield value.translate(_FOLD), min(PIECE, len(value))
    for shift in range(3):
        skip = -(-8 * shift // 6)  # characters that also hold bits of the text before
        form = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")[skip:]
        if (len(raw) + shift) % 3:
            form = form[:-1]  # the last one also holds bits of the text after
        if len(form) >= BLOCK:
            yield form.translate(_FOLD), min(PIECE * 4 // 3, len(form))
    yield raw.hex(), min(2 * PIECE, 2 * len(raw))


def _extend(text: str, block: int, form: str, at: int) -> tuple[int, int]:
    """Return the longest span of the text around a common block in which it agrees with the form."""
    start, stop = block, block + BLOCK
    before, after = at, at + BLOCK
    while start and before and text[start - 1] == form[before - 1]:
        start, before = start - 1, before - 1
    while stop < len(text) and after < len(form) and text[stop] == form[after]:
        stop, after = stop + 1, after + 1
    return start, stop


def _unescape(match: re.Match[str]) -> str:
    percent, long, short, hexadecimal, decimal, named, plain = match.groups()
    if named:
        return _ENTITIES[named.lower()]
    if plain is not None:
        return plain
    code = int(decimal) if decimal else int(percent or long or short or hexadecimal, 16)
    return chr(code) if code <= 0x10FFFF else match.group()


def _places(text: str, view: str) -> list[tuple[int, int]]:
    """Return for every character of an unescaped view its (start, end) in the text."""
    current, places = text, [(at, at + 1) for at in range(len(text))]
    while current != view:
        parts, moved, end = [], [], 0
        for match in _ESCAPE.finditer(current):
            moved += places[end : match.start()]
            new = _unescape(match)
            span = (places[match.start()][0], places[match.end() - 1][1])
            parts += [current[end : match.start()], new]
            moved += [span] * len(new)
            end = match.end()
        moved += places[end:]
        current, places = "".join(parts) + current[end:], moved
    return places


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping and touching spans, in order."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
