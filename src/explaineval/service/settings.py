"""Read serve.yaml: what only the operator of the service may say."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from explaineval.config import EndpointConfig
from explaineval.config.sources import home
from explaineval.config.values import Dollars, Duration, PositiveInt
from explaineval.config.yaml_files import line_of, read_yaml
from explaineval.datasets.readers import BUNDLED
from explaineval.datasets.tasks import parse_spec, takes_columns
from explaineval.errors import InputError
from explaineval.files import open_regular
from explaineval.plugins import allow
from explaineval.records import Record
from explaineval.secrets import SECRETS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What endpoints, tasks and tokens may be called."""
EMBEDDED = "embedded"
"""The name of the endpoint that stands for the small model on this machine."""
LOCAL = "local"
"""The name of the one user where no tokens are configured."""
SHORTEST_TOKEN = 16
LONGEST_TOKEN = 512
Share = Annotated[int, Field(ge=1, le=1024)]


class ServedEndpoint(EndpointConfig):
    """An endpoint as in the configuration file, and which models may be asked there.

    `models` are names as in the file, `*` standing for any text. They must be named where there is no base URL, since
    the model's provider then decides which address is asked with the key.
    """

    models: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_models(self) -> ServedEndpoint:
        if self.base_url is None and not self.models:
            raise ValueError("an endpoint without base_url needs models, for example [openai/*]")
        return self

    def plain(self) -> EndpointConfig:
        """Return the entry as the configuration file has it."""
        values = {name: getattr(self, name) for name in EndpointConfig.model_fields}
        return EndpointConfig(**values)


class ServedTask(Record):
    """A dataset on the server: its task as on the command line, and what the columns of a CSV file hold."""

    task: str
    columns: dict[str, str] = Field(default_factory=dict)


class TokenSettings(Record):
    """One token: where it is read from, what may be spent with it in all (None: no limit), and whether it sees all."""

    token_env: str | None = None
    token_file: Path | None = None
    max_usd: Dollars | None = None
    admin: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> TokenSettings:
        if (self.token_env is None) == (self.token_file is None):
            raise ValueError("give either token_env, the name of an environment variable, or token_file")
        return self


class Capacity(Record):
    """How much the service takes on. Sizes are in bytes, times in seconds."""

    workers: Share = 4
    """Runs that are executed at once; others wait."""
    workers_per_token: Share | None = None
    """How many of these are one token's at the most: without it all but one, where there are several tokens."""
    runs_per_token: PositiveInt = 10_000
    """Runs that are kept for one token."""
    waiting_per_token: PositiveInt = 100
    """Runs of one token that wait or go on."""
    requests_per_run: PositiveInt = 1_000_000
    plan_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """The longest that a plan, a comparison, a report or the check of an upload may take."""
    background_processes: Share = 3
    """Plans, comparisons and pages that are made at once."""
    plans_per_token: Share | None = None
    """How many of these are one token's at the most: without it all but one, where there are several tokens."""
    plans_waiting_per_token: PositiveInt = 20
    """How many of one token may wait for such a process."""
    background_memory: Annotated[int, Field(ge=1 << 28)] = 4 << 30
    """Address space of one process that makes plans, comparisons and reports."""
    request_bytes: PositiveInt = 1 << 20
    """The body of a request that is no upload."""
    file_bytes: PositiveInt = 64 << 20
    file_rows: PositiveInt = 200_000
    files_per_token: PositiveInt = 100
    restarts: Annotated[int, Field(ge=0, le=100)] = 3
    """How often a run whose process died is started again before it counts as failed."""
    connections: Annotated[int, Field(ge=16, le=1_000_000)] = 2000
    """Connections of clients at once; fewer where the system lets a process open fewer files."""
    connections_per_address: PositiveInt = 1000
    """Those of one address. A proxy in front of the service is one address."""
    requests_per_token: PositiveInt = 300
    """Requests of one token under way, its followers among them."""
    patience: Duration = 1800.0
    """For how long runs wait for an endpoint that has answered before and does not now ("30m"); 0 never waits."""
    run_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24 * 30.0
    """For how long a run may go on, its waiting for endpoints and rates included."""
    attempt_seconds: Annotated[float, Field(gt=0, le=3600)] = 600.0
    """The longest `timeout` of one attempt that a user may set."""
    lowest_rpm: Annotated[float, Field(ge=0)] = 0.0
    """The lowest `rpm` that a user may set."""
    followers: PositiveInt = 1000
    """Connections that follow events at once."""
    followers_per_token: PositiveInt = 250
    """Those of one token."""
    header_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """For how long the head of a request may take to arrive."""
    idle_seconds: Annotated[int, Field(ge=1, le=3600)] = 20
    """For how long a connection is kept open for the next request."""
    session_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24 * 7.0


class Settings(Record):
    """The contents of serve.yaml."""

    endpoints: dict[str, ServedEndpoint] = Field(default_factory=dict)
    tasks: dict[str, ServedTask] = Field(default_factory=dict)
    tokens: dict[str, TokenSettings] = Field(default_factory=dict)
    limits: Capacity = Capacity()
    hosts: tuple[str, ...] = ()
    """Names under which the service may be reached, beside those of this machine's loopback."""
    simulated: bool = True
    """Whether simulated models may be asked."""
    embedded: bool = True
    """Whether the small model on this machine may be asked, if it is installed."""
    plugins: tuple[str, ...] = ()
    """The packages whose plug-ins may be used."""
    base_path: str = ""
    """The path below which the service is asked, such as /explaineval: nothing, or `/` and names."""

    def most_of_one(self, most: int, given: int | None) -> int:
        """Return how many of so many places one token may have: as given, else all but one if there are others."""
        if given is not None:
            return min(most, given)
        return max(1, most - 1) if len(self.tokens) > 1 else most

    @field_validator("tasks", mode="before")
    @classmethod
    def _texts_are_tasks(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"task": task} if isinstance(task, str) else task for name, task in value.items()}

    @field_validator("base_path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._~-]*)+", path):
            raise ValueError(f"{value!r} is no path: write / and names, for example /explaineval")
        return path

    @field_validator("endpoints", "tasks", "tokens")
    @classmethod
    def _are_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name: use at most 64 letters, digits, dots, - and _")
        return value

    @model_validator(mode="after")
    def _free_names(self) -> Settings:
        for name in self.tasks:
            if name in BUNDLED:
                raise ValueError(f"tasks: {name!r} is the name of a bundled task; choose another")
        if EMBEDDED in self.endpoints:
            raise ValueError(f"endpoints: {EMBEDDED!r} is the name of the model on this machine; choose another")
        if LOCAL in self.tokens:
            raise ValueError(f"tokens: {LOCAL!r} is the user of a service without tokens; choose another")
        return self


RESTARTED = ("base_path", "hosts", "embedded", "plugins")
"""Keys that count when the service starts."""
RESTARTED_LIMITS = (
    "background_processes", "background_memory", "plan_seconds", "plans_per_token", "plans_waiting_per_token",
    "patience", "followers", "request_bytes", "file_bytes", "connections",
    "connections_per_address", "header_seconds", "idle_seconds",
)  # fmt: skip
RESTARTED_RATES = ("rpm", "tpm", "max_connections")


def needing_restart(before: Settings, after: Settings) -> list[str]:
    """Return the keys that differ between two files and count only when the service starts, with their places."""
    keys = [name for name in RESTARTED if getattr(before, name) != getattr(after, name)]
    keys += [
        f"limits.{name}" for name in RESTARTED_LIMITS if getattr(before.limits, name) != getattr(after.limits, name)
    ]
    for name, entry in after.endpoints.items():
        earlier = before.endpoints.get(name, entry)
        keys += [f"endpoints.{name}.{key}" for key in RESTARTED_RATES if getattr(earlier, key) != getattr(entry, key)]
    return keys


def read_settings(path: Path | None, *, starts: bool = False) -> Settings:
    """Read serve.yaml; without a path all settings have their defaults. Relative paths are relative to the file.

    Where the service `starts`, its processes use from now on the plug-ins of the packages that the file names, and no
    others.

    Raises:
        InputError: the file cannot be read, or a setting is unknown or wrong. It names the line.
    """
    if starts:
        allow(())
    if path is None:
        return Settings()
    values, tree = read_yaml(path, "file of settings", "tasks: {esnli: 'esnli:esnli_dev.csv'}")
    for key in values:
        if key not in Settings.model_fields:
            near = difflib.get_close_matches(str(key), Settings.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(Settings.model_fields)}."
            raise InputError(f"{path}:{line_of(tree, (key,))}: unknown key {key!r}; {hint}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = tuple(part for part in first["loc"] if part != "function-before")
        name = ".".join(map(str, where))
        text = first["msg"].removeprefix("Value error, ").replace("Input should be ", "this must be ")
        if first["type"] == "extra_forbidden":
            text = "unknown key"
        raise InputError(f"{path}:{line_of(tree, where)}: {name + ': ' if name else ''}{text}.") from None
    if starts:
        allow(settings.plugins)
    tasks = {}
    for name, served in settings.tasks.items():
        try:
            spec = parse_spec(served.task, path.parent)
        except InputError as exc:
            raise InputError(f"{path}:{line_of(tree, ('tasks', name))}: {exc}") from None
        if spec.path is None or not spec.path.exists():
            reason = f"{spec.path} does not exist" if spec.path else "it names no file"
            raise InputError(f"{path}:{line_of(tree, ('tasks', name))}: tasks.{name}: {reason}.")
        if takes_columns(served.task) and not served.columns:
            raise InputError(
                f"{path}:{line_of(tree, ('tasks', name))}: tasks.{name}: write what its columns hold: {{task: "
                "'csv:FILE', columns: {gold: label, ...}}."
            )
        reader = served.task.partition(":")[0]
        tasks[name] = served.model_copy(update={"task": f"{reader}:{spec.path.resolve()}"})
    tokens = {
        name: token.model_copy(update={"token_file": path.parent / home(str(token.token_file))})
        if token.token_file is not None
        else token
        for name, token in settings.tokens.items()
    }
    return settings.model_copy(update={"tasks": tasks, "tokens": tokens})


def read_tokens(settings: Settings, environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Read the tokens from the environment and from files; return the SHA-256 of each by its name.

    Raises:
        InputError: a token is missing, too short, given twice, or in a file that others may read.
    """
    environment = os.environ if environment is None else environment
    digests: dict[str, bytes] = {}
    for name, token in settings.tokens.items():
        text = _token_text(name, token, environment)
        if not SHORTEST_TOKEN <= len(text) <= LONGEST_TOKEN or not text.isascii() or not text.isprintable():
            raise InputError(
                f"the token {name} must have {SHORTEST_TOKEN} to {LONGEST_TOKEN} printable ASCII characters; make one "
                "with `openssl rand -hex 24`."
            )
        SECRETS.add(text)
        digest = hashlib.sha256(text.encode()).digest()
        twin = next((other for other, earlier in digests.items() if earlier == digest), None)
        if twin is not None:
            raise InputError(f"the tokens {twin} and {name} are the same: give each user a token of their own.")
        digests[name] = digest
    return digests


def _token_text(name: str, token: TokenSettings, environment: Mapping[str, str]) -> str:
    if token.token_env is not None:
        text = environment.get(token.token_env, "").strip()
        if not text:
            raise InputError(f"the token {name} is missing: the environment variable {token.token_env} is not set.")
        return text
    path = token.token_file or Path()
    try:
        with open_regular(path) as handle:
            mode = os.fstat(handle.fileno()).st_mode
            content = handle.read(LONGEST_TOKEN + 3)
    except OSError as exc:
        raise InputError(f"the token {name} cannot be read: {path}: {exc.strerror or exc}.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"the token {name}: others may read {path}; give `chmod 600 {path}`.")
    return content.decode("ascii", "replace").strip()
