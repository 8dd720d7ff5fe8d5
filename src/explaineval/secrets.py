"""Values that may be shown and stored nowhere: the keys of endpoints, and whatever else the environment keeps secret.

One set for the whole process, and not an argument handed down: a key that was read anywhere must be blanked out
everywhere, also by code that never heard of it (an error caught at the very end, a document written by another layer).
Values are only ever added. Masking is a pure function of a text and the set.

A secret is recognised as it is, escaped (JSON, URL, HTML, also several times over), in base64 (as in Basic and Bearer
headers) and in hexadecimal digits, in any case of its letters, and by any piece of 12 or more characters in a row.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PIECE = 12
"""So many characters of a secret in a row are a piece of it; fewer may be a coincidence."""
GRAM = 6
"""A piece of 12 holds at least one whole block of 6, wherever a text is cut into such blocks."""
MASK = "***"
DEEPEST = 4
"""How many times over a secret may be escaped."""

PLACEHOLDERS = frozenset(
    {"none", "null", "empty", "dummy", "fake", "test", "anything", "placeholder", "ollama", "lm-studio", "lmstudio"}
    | {"not-needed", "no-key", "nokey", "no-key-required", "sk-no-key-required", "unused", "changeme", "password"}
    | {"undefined", "xxxxxxxx", "token-abc123"}
)
"""What documentation tells people to write where a server wants no key: no secrets, and words of plain texts."""

NAMES = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|BEARER|AUTH|JWT|LICENSE)S?(_|$)", re.IGNORECASE
)
NO_SECRETS = re.compile(r"_(ENV|NAME|FILE|PATH|DIR|DIRS|URL|URI|HOST|SOCK|BASE|INTERVAL|NAMESPACE)$", re.IGNORECASE)
API_KEYS = re.compile(r"API_?KEY$", re.IGNORECASE)
PLACES = ("/", "~", "./", "../", "http://", "https://")

_ESCAPE = re.compile(
    r"%([0-9a-f]{2})|\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|&#x([0-9a-f]{1,6});|&#([0-9]{1,7});|&(amp|quot|lt|gt|apos);"
    r"|\\(.)",
    re.IGNORECASE | re.DOTALL,
)
_NAMED = {"amp": "&", "quot": '"', "lt": "<", "gt": ">", "apos": "'"}
_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", "abcdefghijklmnopqrstuvwxyz+/")
"""One case, and one of the two alphabets of base64."""


class Secrets:
    """A set of secrets that texts are cleared of."""

    def __init__(self) -> None:
        self._values: frozenset[str] = frozenset()
        self._grams: dict[str, list[tuple[str, int, int]]] = {}
        """Block of six characters → (form of a secret, where the block stands in it, fewest characters of a piece)."""
        self._short: frozenset[str] = frozenset()
        """Forms that are too short for the blocks: looked for as a whole."""

    def add(self, value: str | None) -> None:
        """Keep a key that was read. Placeholders, and words that are too short to be told from others, are no keys."""
        value = (value or "").strip()
        if value in self._values or value.lower() in PLACEHOLDERS:
            return
        if len(value) < GRAM or (value.isalpha() and len(value) < 8):
            return
        grams, short = {name: [*found] for name, found in self._grams.items()}, set(self._short)
        for form, fewest in _forms(value):
            if fewest < 2 * GRAM - 1:
                short.add(form)
                continue
            for at in range(len(form) - GRAM + 1):
                grams.setdefault(form[at : at + GRAM], []).append((form, at, fewest))
        self._values |= {value}
        self._grams, self._short = grams, frozenset(short)

    def learn(self, environment: Mapping[str, str]) -> None:
        """Add what an environment keeps under the names of keys, tokens and passwords: litellm finds some by itself."""
        for name, value in environment.items():
            if not NAMES.search(name) or NO_SECRETS.search(name) or value.startswith(PLACES) or value in environment:
                continue
            for secret in _secrets_in(value):
                likely = len(secret) >= 16 or (len(secret) >= 8 and any(letter.isdigit() for letter in secret))
                if likely or API_KEYS.search(name):
                    self.add(secret)

    def mask(self, text: str, *, keep_length: bool = False) -> str:
        """The text with asterisks for every secret and every piece of one; as many as characters with `keep_length`."""
        spans = list(self._spans(text))
        if not spans:
            return text
        parts, end = [], 0
        for start, stop in _merged(spans):
            parts += [text[end:start], "*" * (stop - start) if keep_length else MASK]
            end = stop
        return "".join(parts) + text[end:]

    def mask_value(self, value: Any, *, keep_length: bool = False) -> Any:
        """A JSON value with every text in it masked, names included; the very same one where nothing is secret."""
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
        """Where secrets stand in the text, also under its escapes."""
        if not self._values or len(text) < GRAM:
            return
        view, places = text, None
        for _ in range(DEEPEST + 1):
            folded = view.translate(_FOLD)
            found = list(self._find(folded))
            if found and places is None and view is not text:
                places = _places(text, view)
            for start, stop in found:
                yield (start, stop) if places is None else (places[start][0], places[stop - 1][1])
            if not any(sign in view for sign in "%\\&"):
                return
            deeper = _ESCAPE.sub(_unescaped, view)
            if deeper == view:
                return
            view, places = deeper, None

    def _find(self, folded: str) -> Iterator[tuple[int, int]]:
        """(start, end) of every secret and piece in a folded text."""
        for form in self._short:
            at = folded.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = folded.find(form, at + 1)
        done = 0
        for block in range(0, len(folded) - GRAM + 1, GRAM):
            candidates = self._grams.get(folded[block : block + GRAM])
            if candidates is None or block + GRAM <= done:
                continue
            for form, at, fewest in candidates:
                start, stop = _grown(folded, block, form, at)
                if stop - start >= fewest:
                    done = max(done, stop)
                    yield start, stop


SECRETS = Secrets()
"""The secrets of this process."""


def _secrets_in(value: str) -> Iterable[str]:
    """The value itself, or, where it is a JSON object as of a service account, what is secret in it."""
    if not value.lstrip().startswith("{"):
        return (value,)
    try:
        found = json.loads(value)
    except ValueError:
        return (value,)
    return [inner for name, inner in found.items() if isinstance(inner, str) and NAMES.search(name)]


def _forms(value: str) -> Iterator[tuple[str, int]]:
    """How a secret may be spelled, folded, each with the fewest characters that count as a piece of it."""
    raw = value.encode("utf-8", "surrogatepass")
    yield value.translate(_FOLD), min(PIECE, len(value))
    for shift in range(3):
        skip = -(-8 * shift // 6)  # characters that also hold bits of what stands before
        form = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")[skip:]
        if (len(raw) + shift) % 3:
            form = form[:-1]  # the last one also holds bits of what stands behind
        if len(form) >= GRAM:
            yield form.translate(_FOLD), min(PIECE * 4 // 3, len(form))
    yield raw.hex(), min(2 * PIECE, 2 * len(raw))


def _grown(text: str, block: int, form: str, at: int) -> tuple[int, int]:
    """The longest stretch around a common block in which text and form agree."""
    start, stop = block, block + GRAM
    before, after = at, at + GRAM
    while start and before and text[start - 1] == form[before - 1]:
        start, before = start - 1, before - 1
    while stop < len(text) and after < len(form) and text[stop] == form[after]:
        stop, after = stop + 1, after + 1
    return start, stop


def _unescaped(found: re.Match[str]) -> str:
    percent, long, short, hexadecimal, decimal, named, plain = found.groups()
    if named:
        return _NAMED[named.lower()]
    if plain is not None:
        return plain
    code = int(decimal) if decimal else int(percent or long or short or hexadecimal, 16)
    return chr(code) if code <= 0x10FFFF else found.group()


def _places(text: str, view: str) -> list[tuple[int, int]]:
    """For every character of an unescaped view, from where to where it stands in the text."""
    current, places = text, [(at, at + 1) for at in range(len(text))]
    while current != view:
        parts, moved, end = [], [], 0
        for found in _ESCAPE.finditer(current):
            moved += places[end : found.start()]
            new = _unescaped(found)
            span = (places[found.start()][0], places[found.end() - 1][1])
            parts += [current[end : found.start()], new]
            moved += [span] * len(new)
            end = found.end()
        moved += places[end:]
        current, places = "".join(parts) + current[end:], moved
    return places


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and touching spans as one, in order."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
