"""Types of settings, and how the text of each is read: endpoints, durations, dollars, variables, columns, shards."""

from __future__ import annotations

import csv
import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, PlainSerializer

from explaineval.errors import InputError
from explaineval.records import Record

PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Prices = tuple[Dollars, Dollars]
"""Dollars per million input tokens and per million output tokens."""
TransportName = Literal["litellm", "direct"]
"""What sends the requests to a model: litellm, or explaineval itself."""
Engine = Literal["local", "ray"]
"""Where requests are sent from: this process, or workers on Ray."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PASTED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).{20,}|[0-9a-f]{24,}")
"""What looks like a key that was given in the place of the name of its variable: long, mixed or hexadecimal."""


def _name_of_variable(value: str) -> str:
    """Return the name; refuse what looks like a key, since it is stored in run.json and repeated in messages."""
    if not VARIABLE.fullmatch(value) or PASTED.fullmatch(value):
        raise ValueError("this is the name of the environment variable that holds the key, not the key itself")
    return value


def _ray_address(value: str) -> str:
    if value != "auto" and not HOST_AND_PORT.fullmatch(value):
        raise ValueError("write the address of a Ray cluster as HOST:PORT, or `auto` on one of its machines")
    return value


def _allowed_key(value: str) -> str:
    if not ALLOWED.fullmatch(value):
        raise ValueError(f"{value!r}: write VAR@HOST or VAR@HOST:PORT, for example EXPLAINEVAL_LAB_KEY@127.0.0.1:8000")
    return value


def check_endpoint_name(value: str) -> str:
    """Return the name that stands for an endpoint in cache keys. Raises ValueError where it cannot."""
    if "://" in value:
        raise ValueError("an endpoint's name is no URL: leave it out, and the base URL stands for itself")
    if not value.strip() or len(value) > LONGEST_NAME:
        raise ValueError(f"an endpoint's name has 1 to {LONGEST_NAME} characters, and not only spaces")
    return value


LONGEST_NAME = 200
ALLOWED = re.compile(
    r"(?P<variable>[A-Za-z_][A-Za-z0-9_]*)@(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
)
HOST_AND_PORT = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
RayAddress = Annotated[str, AfterValidator(_ray_address)]
KeyVariable = Annotated[str, AfterValidator(_name_of_variable)]
EndpointName = Annotated[str, AfterValidator(check_endpoint_name)]
AllowedKey = Annotated[str, AfterValidator(_allowed_key)]
"""A variable whose key may go to a host, although only a file says so; without a port, to every port there."""


DURATION = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|h|d)?\s*", re.ASCII)
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_DURATION = 30 * UNITS["d"]


def read_duration(value: object) -> float:
    """Return seconds, given as a number or as text with a unit: 90, "90s", "5m", "1.5h", "2d".

    Raises ValueError for anything else, and for more than 30 days.

    >>> read_duration("5m"), read_duration(0), read_duration("1.5h")
    (300.0, 0.0, 5400.0)
    """
    seconds = None
    if isinstance(value, str) and (match := DURATION.fullmatch(value)):
        seconds = float(match[1]) * UNITS[match[2] or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(min(value, 2 * LONGEST_DURATION))
    if seconds is None or not 0 <= seconds <= LONGEST_DURATION:
        raise ValueError("write a duration of at most 30 days, in seconds or with a unit: 90, 90s, 5m or 2h")
    return seconds


def short_duration(seconds: float) -> str:
    """Return whole seconds as `read_duration` reads them, in the largest unit below a day that needs no fraction.

    >>> short_duration(300), short_duration(93600), short_duration(90)
    ('5m', '26h', '90s')
    """
    unit = next(name for name in "hms" if seconds % UNITS[name] == 0)
    return f"{seconds / UNITS[unit]:g}{unit}"


Duration = Annotated[float, BeforeValidator(read_duration)]


def read_temperature(text: str) -> float | str:
    """Return a number, or `omit`. Raises InputError for anything else."""
    if text == "omit":
        return "omit"
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--temperature {text!r} is neither a number nor `omit`.") from None


def read_price(text: str) -> list[float]:
    """Return `IN,OUT` as two numbers. Raises InputError."""
    try:
        prices = [float(part) for part in text.split(",")]
    except ValueError:
        prices = []
    if len(prices) != 2 or not all(0 <= price < float("inf") for price in prices):
        raise InputError(f"--price {text!r}: write two numbers, IN,OUT, in dollars per million tokens.")
    return prices


COLUMNS_EXAMPLE = "id=ID,premise=Text,hypothesis=Claim,gold=Label"
"""What `--columns` looks like, for messages."""


class Columns(Record):
    """The columns of a CSV file that hold an example's parts; each value is the name of a column.

    `fields` are the named texts of an example, `options` the texts of its options by their letters. Without `options`
    they are those that go with the names of the fields; without `id` an example is named by the number of its row.
    """

    fields: dict[str, str]
    options: dict[str, str] = Field(default_factory=dict)
    id: str | None = None
    gold: str | None = None
    explanation: str | None = None

    @property
    def used(self) -> list[str]:
        """The names of all columns that are read, each once."""
        single = (self.id, self.gold, self.explanation)
        return list(dict.fromkeys([*filter(None, single), *self.fields.values(), *self.options.values()]))

    @property
    def required(self) -> list[str]:
        """The names of the columns that must not be empty: the id, and all that the model is shown."""
        return list(dict.fromkeys([*([self.id] if self.id else []), *self.fields.values(), *self.options.values()]))


def columns_of(names: Mapping[str, str]) -> Columns:
    """Return the columns by what they hold: `id`, `gold`, `explanation`, an option's letter, else a field.

    Raises InputError for a blank name, a column that is given for two things, or where no field is named.
    """
    for name, column in names.items():
        if not name.strip() or not column:
            raise InputError(
                f"columns: a name or its column is blank ({name}={column}): write it like {COLUMNS_EXAMPLE}."
            )
    if "options" in names:
        raise InputError("columns: give each option's text a column of its own, A=COLUMN,B=COLUMN, not options.")
    options = {name: column for name, column in names.items() if len(name) == 1 and "A" <= name <= "Z"}
    single = {name: names[name] for name in ("id", "gold", "explanation") if name in names}
    fields = {name: column for name, column in names.items() if name not in options and name not in single}
    if not fields:
        raise InputError(
            "columns: no field is named: beside id, gold, explanation and the letters of options, at least one text "
            f"that the model is shown needs its column, as in {COLUMNS_EXAMPLE}."
        )
    if len(options) == 1:
        raise InputError(f"columns: {next(iter(options))} is the only option: give a column for each, A=…,B=….")
    counts = Counter(column for name, column in names.items() if name != "id")
    shared = next((column for column, count in counts.items() if count > 1), None)
    if shared is not None:
        owners = " and ".join(name for name, column in names.items() if column == shared and name != "id")
        raise InputError(f"columns: the column {shared!r} is given for {owners}: give each a column of its own.")
    return Columns(fields=fields, options=options, **single)


def read_columns(text: str) -> dict[str, str]:
    """Return `NAME=COLUMN,NAME=COLUMN` as a mapping. A part with a comma stands in double quotes. Raises InputError.

    >>> read_columns('id=ID,"premise=Text, in full"')
    {'id': 'ID', 'premise': 'Text, in full'}
    """
    names: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        name, equals, column = part.strip().partition("=")
        if not (equals and name and column):
            raise InputError(f"--columns {part!r}: write NAME=COLUMN,NAME=COLUMN, for example {COLUMNS_EXAMPLE}.")
        if name in names:
            raise InputError(f"--columns names {name} twice: name each field once.")
        names[name] = column
    return names


_FORM = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*")


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `count`; numbers begin at 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def suffix(self) -> str:
        """How the shard stands in the name of a run directory."""
        return f"{self.number}of{self.count}"

    def holds(self, example_id: str) -> bool:
        """Say whether an example belongs to this shard, by the SHA-256 of its id in UTF-8.

        The hash is read as one number, most significant byte first; its remainder by N is I − 1.

        >>> [Shard(number, 3).holds("nli-001") for number in (1, 2, 3)].count(True)
        1
        """
        hashed = hashlib.sha256(example_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(hashed, "big") % self.count == self.number - 1


def read_shard(value: Any) -> Any:
    """Read `I/N`. Raises ValueError for anything else."""
    if isinstance(value, Shard):
        return value
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        number, count = map(int, found.groups())
        if 1 <= number <= count:
            return Shard(number, count)
    raise ValueError(f"{value!r} is no shard; write I/N with I from 1 to N, for example 1/4")


ShardText = Annotated[InstanceOf[Shard], BeforeValidator(read_shard), PlainSerializer(str, return_type=str)]
"""A shard that files and options write as `I/N`."""


DEFAULT_PORTS = {"http": 80, "https": 443}

_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_DIGITS = re.compile(r"[0-9.]+")
_PATH = "/%:@!$&'()*+,;=~"
"""What may stand in a path as it is."""


@dataclass(frozen=True)
class Endpoint:
    """One address of one provider.

    `identity` stands in the cache key and in every row: the name, else the normalised URL, else None for the
    provider's own address. `api_key_env` names an environment variable; the key itself is never held here.
    """

    base_url: str | None = None
    name: str | None = None
    api_key_env: str | None = None

    @property
    def identity(self) -> str | None:
        """Return the name, else the base URL, else None."""
        return self.name or self.base_url

    @property
    def private(self) -> bool:
        """Whether the address is a loopback or private one, whose tokens cost nothing."""
        return self.base_url is not None and is_private(self.base_url)


def normalise_url(text: str) -> str:
    """Return the one spelling of a base URL under which its answers are stored.

    Scheme and host are in lower case. A default port, a trailing slash, dot segments and needless percent-escapes are
    left out.

    Raises:
        InputError: the scheme is another one, the URL holds a user name, password, query or fragment, or its path holds
            `//`, which some servers treat like `/` and others do not.

    >>> normalise_url("HTTP://LocalHost:80/v1/")
    'http://localhost/v1'
    >>> normalise_url("http://localhost/a/../%76%31/./b%2fc")
    'http://localhost/v1/b%2Fc'
    """
    scheme, host, path = _split(text)
    path = _without_dots(_ESCAPE.sub(_needed, quote(path, safe=_PATH)))
    if "//" in path:
        raise InputError(f"the base URL {text!r} has `//` in its path: write it with single slashes.")
    return urlunsplit((scheme, host, path, "", ""))


def older_spelling(text: str) -> str:
    """Return how earlier versions wrote the same base URL into the cache key: with the path as it was given.

    >>> older_spelling("HTTP://LocalHost:80/./v1/")
    'http://localhost/./v1'
    """
    return urlunsplit((*_split(text), "", ""))


def spellings(name: str) -> set[str]:
    """Return the names under which this and earlier versions store the answers of an endpoint's name or URL.

    Raises:
        InputError: it is a URL that cannot be used.

    >>> sorted(spellings("http://localhost/./v1"))
    ['http://localhost/./v1', 'http://localhost/v1']
    """
    if "://" not in name:
        return {name}
    older = older_spelling(name)
    return {older} if "//" in _split(name)[2] else {older, normalise_url(name)}


def _split(text: str) -> tuple[str, str, str]:
    """Return scheme, host with port, and path of a base URL; only the path may have several spellings."""
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as exc:
        raise InputError(f"the base URL {text!r} is not a URL: {exc}.") from None
    if parts.scheme.lower() not in DEFAULT_PORTS or not host:
        raise InputError(f"the base URL {text!r} is not a URL: write it like http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "a base URL may hold no user name, password, query or fragment: it is stored with every answer. "
            "Give the key through the variable that api_key_env names."
        )
    if not _is_host(host):
        raise InputError(f"the base URL {text!r} has no usable host name: write it like http://127.0.0.1:8000/v1.")
    scheme = parts.scheme.lower()
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    return scheme, host, parts.path.rstrip("/")


def _is_host(host: str) -> bool:
    """Return whether HTTP clients take this for a host: a name, also an international one, or an IP address."""
    try:
        if ":" in host or _DIGITS.fullmatch(host):
            ipaddress.ip_address(host)
        elif not host.isascii() or "xn--" in host:
            import idna

            idna.decode(idna.encode(host))
        else:
            return _HOST.fullmatch(host) is not None
    except (ValueError, UnicodeError):  # idna's error is one of them
        return False
    return True


def _needed(escape: re.Match[str]) -> str:
    """Return a percent-escape in capitals, or the letter itself where it needs no escape."""
    letter = chr(int(escape[1], 16))
    return letter if letter.isascii() and (letter.isalnum() or letter in "-._~") else escape[0].upper()


def _without_dots(path: str) -> str:
    """Return the path without `.` and `..` segments (RFC 3986, 5.2.4) and without a trailing slash."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "".join(f"/{segment}" for segment in kept).rstrip("/")


def is_private(url: str) -> bool:
    """Return whether the URL's host is a loopback or private address, or `localhost`.

    >>> is_private("http://127.0.0.1:8000/v1"), is_private("https://api.example.org/v1")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
