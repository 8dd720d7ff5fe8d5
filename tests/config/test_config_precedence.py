"""Command line over environment over file over default, for every option of `run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from explaineval.cli.app import app, main
from explaineval.cli.configuration import resolve
from explaineval.cli.options import repeated
from explaineval.cli.run import run
from explaineval.config import ClientConfig, ModelConfig, RunConfig, Shard, arms_for
from explaineval.errors import InputError

LAB = "http://127.0.0.1:1111/v1"
Resolved = tuple[RunConfig, ClientConfig, Path | None]
BASE: dict[str, Any] = {"tasks": ["nli"], "models": [{"model": "openai/base"}]}


@dataclass(frozen=True)
class Case:
    """One option: how to see its value, its default, what a file gives, and what variable and command line say."""

    seen: Callable[[Resolved], Any]
    default: Any
    file: tuple[dict[str, Any], Any] | None
    variable: tuple[str, Any]
    command: tuple[str, Any]
    beside: dict[str, Any] = field(default_factory=dict)
    """What the file must say too, for the option to be allowed."""


def science(name: str) -> Callable[[Resolved], Any]:
    """A field of RunConfig."""
    return lambda found: getattr(found[0], name)


def transport(name: str) -> Callable[[Resolved], Any]:
    """A field of ClientConfig."""
    return lambda found: getattr(found[1], name)


def arm(name: str) -> Callable[[Resolved], Any]:
    """What the only arm of the first model says."""
    return lambda found: getattr(next(arms_for(found[0], found[0].models[0])), name)


def edits(name: str) -> Callable[[Resolved], Any]:
    """A field of the interventions' configuration."""
    return lambda found: getattr(found[0].interventions, name)


def first(found: Resolved) -> ModelConfig:
    """The first model."""
    return found[0].models[0]


def simple(name: str, default: Any, file: Any, variable: Any, command: Any, *, path: bool = False) -> Case:
    """An option that stands in the file under its own name."""
    see = transport(name) if name in ClientConfig.model_fields else science(name)
    wrap: Callable[[Any], Any] = Path if path else lambda value: value
    found = [None if value is None else wrap(value) for value in (default, file, variable, command)]
    return Case(see, found[0], ({name: file}, found[1]), (str(variable), found[2]), (str(command), found[3]))


CASES: dict[str, Case] = {
    "limit": simple("limit", None, 3, 4, 5),
    "columns": Case(
        science("columns"), {}, ({"columns": {"note": "f"}}, {"note": "f"}), ("note=v", {"note": "v"}),
        ("id=i,note=c", {"id": "i", "note": "c"}),
    ),
    "shams": simple("shams", 1, 0, 2, 3),
    "samples": simple("samples", 1, 2, 3, 4),
    "tvd_samples": replace(simple("tvd_samples", None, 50, 60, 70), beside={"temperature": 0.5}),
    "seed": simple("seed", 0, 1, -2, 3),
    "shard": Case(
        science("shard"), None, ({"shard": "1/2"}, Shard(1, 2)), ("2/3", Shard(2, 3)), ("3/4", Shard(3, 4))
    ),
    "until_half_width": simple("until_half_width", None, 0.25, 0.5, 0.125),
    "shots_from": simple("shots_from", None, "/f.jsonl", "/v.jsonl", "/c.jsonl", path=True),
    "prompts": simple("prompts", None, "/f", "/v", "/c", path=True),
    "temperature": simple("temperature", None, 0.5, 0.25, 1.0),
    "max_tokens": simple("max_tokens", 512, 10, 20, 30),
    "logprobs": simple("logprobs", "auto", "on", "off", "auto"),
    "mention": simple("mention", "word", "lemma", "substring", "word"),
    "min_label_mass": simple("min_label_mass", 0.9, 0.5, 0.25, 0.0),
    "interval": simple("interval", "jackknife", "percentile", "jackknife", "percentile"),
    "resamples": simple("resamples", 2000, 10, 20, 30),
    "transport": simple("transport", "litellm", "direct", "litellm", "direct"),
    "max_connections": simple("max_connections", 32, 1, 2, 3),
    "rpm": simple("rpm", None, 10, 20, 30),
    "tpm": simple("tpm", None, 100, 200, 300),
    "max_retries": simple("max_retries", 6, 1, 2, 0),
    "timeout": simple("timeout", 120.0, 1.5, 2.5, 3.5),
    "max_usd": simple("max_usd", None, 1.5, 2.5, 0.0),
    "batch_poll": simple("batch_poll", 30.0, 1.5, 2.5, 3.5),
    "engine": simple("engine", "local", "ray", "local", "ray"),
    "ray_address": simple("ray_address", None, "auto", "head:6379", "10.0.0.1:6379"),
    "workers": simple("workers", None, 2, 3, 4),
    "cache": simple("cache", Path("cache"), "/f", "/v", "/c", path=True),
    "out": Case(lambda found: found[2], None, ({"out": "/f"}, Path("/f")), ("/v", Path("/v")), ("/c", Path("/c"))),
    "price": Case(transport("price"), None, ({"price": [1, 2]}, (1, 2)), ("3,4", (3, 4)), ("5,6.5", (5, 6.5))),
    "order": Case(arm("order"), "pe", ({"arms": {"order": ["pe2"]}}, "pe2"), ("pe", "pe"), ("ep", "ep")),
    "style": Case(
        arm("style"), "chat", ({"arms": {"style": ["completion"]}}, "completion"), ("chat", "chat"),
        ("completion", "completion"),
    ),
    "shots": Case(arm("shots"), 0, ({"arms": {"shots": [2]}}, 2), ("3", 3), ("0", 0)),
    "interventions": Case(
        edits("file"), None, ({"interventions": {"file": "/f"}}, Path("/f")), ("/v", Path("/v")), ("/c", Path("/c"))
    ),
    "kind": Case(edits("kind"), None, None, ("random_word", "random_word"), ("random_word", "random_word")),
    "per_example": Case(edits("per_example"), 4, ({"interventions": {"per_example": 5}}, 5), ("6", 6), ("7", 7)),
    "tagger": Case(edits("tagger"), None, ({"interventions": {"tagger": "f"}}, "f"), ("v", "v"), ("c", "c")),
    "base_url": Case(
        lambda found: found[1].endpoint_of(first(found)).base_url,
        None,
        ({"models": [{"model": "openai/base", "endpoint": "lab"}], "endpoints": {"lab": {"base_url": LAB}}}, LAB),
        ("http://127.0.0.1:2222/v1", "http://127.0.0.1:2222/v1"),
        ("HTTP://127.0.0.1:3333/v1/", "http://127.0.0.1:3333/v1"),
    ),
    "api_key_env": Case(
        lambda found: found[1].endpoint_of(first(found)).api_key_env,
        None,
        ({"api_key_env": "FILE_KEY"}, "FILE_KEY"),
        ("VARIABLE_KEY", "VARIABLE_KEY"),
        ("COMMAND_KEY", "COMMAND_KEY"),
    ),
}  # fmt: skip
"""Single-valued options. `endpoint_name` and `json` have tests of their own, repeatable ones too; `table` prints."""

APART = {
    "metric",
    "config",
    "json",
    "table",
    "endpoint_name",
    "allow_key",
    "task",
    "model",
    "verbosity",
    "param",
    "retry",
    "offline",
    "batch",
    "keep_unreadable",
    "patience",
    "spent",
    "batch_wait",
}


def context_of(*arguments: str) -> dict[str, Any]:
    """The options of `run` as the program itself reads them."""
    return run.make_context("run", list(arguments), parent=click.Context(app, **app.context_settings)).params


def resolved(tmp_path: Path, values: dict[str, Any], *arguments: str) -> Resolved:
    """What `run` makes of a file with `values` and of these arguments, the environment as it is."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({**BASE, **values}), encoding="utf-8")
    given = context_of(str(file), *arguments)
    given.pop("json")
    return resolve(given.pop("config"), given)


def dashed(name: str) -> str:
    """The option as it is typed."""
    return "--" + name.replace("_", "-")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine may reach the options."""
    for name in CASES.keys() | APART:
        monkeypatch.delenv(f"EXPLAINEVAL_{name.upper()}", raising=False)


@pytest.mark.parametrize("name", ["offline", "batch", "keep_unreadable"])
def test_a_switch_goes_both_ways(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default off; file over default, variable over file, command line over all of them."""
    see = transport(name)

    assert see(resolved(tmp_path, {})) is False
    assert see(resolved(tmp_path, {name: True})) is True
    monkeypatch.setenv(f"EXPLAINEVAL_{name.upper()}", "0")
    assert see(resolved(tmp_path, {name: True})) is False
    assert see(resolved(tmp_path, {name: False}, f"--{name.replace('_', '-')}")) is True
    assert see(resolved(tmp_path, {name: True}, f"--no-{name.replace('_', '-')}")) is False


def test_every_option_is_covered() -> None:
    """A new option cannot come without a case here."""
    assert {parameter.name for parameter in run.params} == CASES.keys() | APART


@pytest.mark.parametrize("name", CASES)
def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each source wins over the ones below it, and nothing given leaves the default."""
    case = CASES[name]
    values, of_file = case.file or ({}, case.default)
    values = values | case.beside

    assert case.default == case.seen(resolved(tmp_path, case.beside))
    assert of_file == case.seen(resolved(tmp_path, values))
    monkeypatch.setenv(f"EXPLAINEVAL_{name.upper()}", case.variable[0])
    assert case.variable[1] == case.seen(resolved(tmp_path, values))
    assert case.variable[1] == case.seen(resolved(tmp_path, case.beside))
    assert case.command[1] == case.seen(resolved(tmp_path, values, dashed(name), case.command[0]))


@pytest.mark.parametrize("name", CASES)
def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable set to nothing counts as not set."""
    monkeypatch.setenv(f"EXPLAINEVAL_{name.upper()}", "")

    assert CASES[name].default == CASES[name].seen(resolved(tmp_path, {}))


def test_the_endpoint_name_stands_for_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variable and command line name the address that --base-url gives."""
    monkeypatch.setenv("EXPLAINEVAL_BASE_URL", LAB)
    assert first(resolved(tmp_path, {})).endpoint == LAB
    monkeypatch.setenv("EXPLAINEVAL_ENDPOINT_NAME", "house")
    assert first(resolved(tmp_path, {})).endpoint == "house"

    found = resolved(tmp_path, {}, "--endpoint-name", "room")

    assert (first(found).endpoint, found[1].endpoint_of(first(found)).base_url) == ("room", LAB)


def test_the_json_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """EXPLAINEVAL_JSON switches the one-document output on, like --json."""
    assert context_of()["json"] is False
    monkeypatch.setenv("EXPLAINEVAL_JSON", "1")

    assert context_of()["json"] is True


@pytest.mark.parametrize(
    ("arguments", "seen", "expected"),
    [
        (("--task", "qa", "--task", "sense"), lambda found: found[0].tasks, ("qa", "sense")),
        (("--model", "a/b", "--model", "c/d"), lambda found: [m.model for m in found[0].models], ["a/b", "c/d"]),
        (("--order", "ep", "--order", "pe"), lambda found: found[0].arms.order, ("ep", "pe")),
        (("--style", "completion", "--style", "chat"), lambda found: found[0].arms.style, ("completion", "chat")),
        (("--verbosity", "brief", "--verbosity", "x"), lambda found: found[0].arms.verbosity, ("brief", "x")),
        (
            ("--param", "top_p=0.5", "--param", 'extra_body={"b": [1]}'),
            lambda found: found[0].params,
            {"top_p": 0.5, "top_k": 1, "extra_body": {"b": [1]}},
        ),
    ],
)
def test_repeatable_options_win_over_the_file(
    tmp_path: Path, arguments: tuple[str, ...], seen: Callable[[Resolved], Any], expected: Any
) -> None:
    """Given on the command line they replace the file's; single parameters replace those of their name."""
    arms = {"verbosity": ["detailed"], "order": ["pe2"], "style": ["chat"]}
    models = [{"model": name} for name in ("e/f", "c/d", "a/b")]
    values = {"arms": arms, "params": {"top_p": 0.9, "top_k": 1}, "models": models}

    assert expected == seen(resolved(tmp_path, values, *arguments))


def test_a_kind_given_wins_over_the_files_interventions(tmp_path: Path) -> None:
    """--kind replaces the file's interventions file, as --interventions replaces the file's kind."""
    found = resolved(tmp_path, {"interventions": {"file": "/f.jsonl"}}, "--kind", "random_word")

    assert (found[0].interventions.file, found[0].interventions.kind) == (None, "random_word")


def test_interventions_given_win_over_the_files_kind(tmp_path: Path) -> None:
    """--interventions replaces the file's kind."""
    found = resolved(tmp_path, {"interventions": {"kind": "random_word"}}, "--interventions", "/c.jsonl")

    assert (Path("/c.jsonl"), None) == (found[0].interventions.file, found[0].interventions.kind)


NAMED = {
    "models": [{"model": "openai/base", "endpoint": "lab", "style": "chat", "shots": 0}],
    "endpoints": {"lab": {"base_url": LAB, "price": [1, 1], "api_key_env": "FILE_KEY", "max_connections": 9}},
}


@pytest.mark.parametrize(
    ("arguments", "seen", "expected"),
    [
        (("--price", "5,6"), lambda found: found[1].price_of(first(found)), (5.0, 6.0)),
        (("--max-connections", "3"), lambda found: found[1].connections_of(first(found)), 3),
        (("--api-key-env", "MINE"), lambda found: found[1].endpoint_of(first(found)).api_key_env, "MINE"),
        (("--style", "completion"), arm("style"), "completion"),
        (("--shots", "2"), arm("shots"), 2),
    ],
)
def test_an_option_given_wins_over_what_the_file_says_of_one_model(
    tmp_path: Path, arguments: tuple[str, ...], seen: Callable[[Resolved], Any], expected: Any
) -> None:
    """The command line holds for all models, those with settings of their own in the file included."""
    assert expected == seen(resolved(tmp_path, NAMED, *arguments))


def test_a_parameter_given_twice_is_refused(tmp_path: Path) -> None:
    """Two values for one parameter are a mistake; the same one twice is none."""
    found = resolved(tmp_path, {}, "--param", "top_p=0.5", "--param", "top_p=0.5")

    assert found[0].params == {"top_p": 0.5}
    with pytest.raises(InputError, match="--param top_p is given two values"):
        resolved(tmp_path, {}, "--param", "top_p=0.5", "--param", "top_p=0.6")


def test_a_run_resolves_without_a_file() -> None:
    """Options alone are enough."""
    given = context_of("--task", "nli", "--model", "a/b", "--param", 'verbosity="low"')

    assert (
        json.loads('{"verbosity": "low"}')
        == resolve(given.pop("config"), {k: v for k, v in given.items() if k != "json"})[0].params
    )


def test_options_are_documented() -> None:
    """Each option of `run` shows a help text."""
    assert [p.name for p in run.params if isinstance(p, click.Option) and not p.help] == []


HOUSE = "http://127.0.0.1:4444/v1"
STUDY: dict[str, Any] = {
    "endpoints": {"lab": {"base_url": LAB, "api_key_env": "LAB_KEY"}, "house": {"base_url": HOUSE}},
    "models": [
        {"model": "openai/smol", "endpoint": "lab", "tuned": "instruct", "max_usd": 2},
        {"model": "openai/smol", "endpoint": "house"},
        {"model": "openai/large", "endpoint": "lab", "shots": 4},
        {"model": "openai/gpt-4o-mini"},
    ],
}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["openai/large"], [(LAB, "openai/large")]),
        (["openai/smol"], [(LAB, "openai/smol"), (HOUSE, "openai/smol")]),
        (["house/openai/smol"], [(HOUSE, "openai/smol")]),
        (["openai/gpt-4o-mini", "lab/openai/smol"], [(None, "openai/gpt-4o-mini"), (LAB, "openai/smol")]),
    ],
)
def test_a_model_given_beside_a_file_is_chosen_among_its_models(
    tmp_path: Path, names: list[str], expected: list[tuple[str | None, str]]
) -> None:
    """It stays at the file's endpoint with the file's settings; nothing goes to the provider's own address."""
    arguments = [part for name in names for part in ("--model", name)]
    found = resolved(tmp_path, STUDY, *arguments)

    assert expected == [(one.endpoint, one.model) for one in found[0].models]
    urls = {name: entry["base_url"] for name, entry in STUDY["endpoints"].items()}
    entries = [ModelConfig.model_validate(one | {"endpoint": urls.get(one.get("endpoint"))}) for one in STUDY["models"]]
    assert all(one in entries for one in found[0].models)


@pytest.mark.parametrize(
    "name", ["openai/other", "large", "lab/openai/gpt-4o-mini", "openai/gpt-4o-min", "room/openai/smol"]
)
def test_a_model_that_the_file_lacks_is_refused(tmp_path: Path, name: str) -> None:
    """Exit code 2, and the sentence lists the models of the file."""
    with pytest.raises(InputError, match="none of the models of") as caught:
        resolved(tmp_path, STUDY, "--model", name)

    assert caught.value.exit_code == 2
    for listed in ("lab/openai/smol", "house/openai/smol", "lab/openai/large", ", openai/gpt-4o-mini", "--base-url"):
        assert listed in str(caught.value)


def test_a_model_that_the_file_lacks_goes_where_base_url_says(tmp_path: Path) -> None:
    """--base-url is explicit: a new model is asked there, and one of the file keeps its other settings."""
    found = resolved(tmp_path, STUDY, "--model", "openai/other", "--model", "openai/smol", "--base-url", HOUSE)

    assert [(one.endpoint, one.model, one.tuned) for one in found[0].models] == [
        (HOUSE, "openai/other", None),
        (HOUSE, "openai/smol", "instruct"),
    ]


@pytest.mark.parametrize("named", [(), ("--endpoint-name", "mine")])
def test_base_url_keeps_what_the_file_says_of_that_address(tmp_path: Path, named: tuple[str, ...]) -> None:
    """Its price and limits belong to the server; no other endpoint of the file is left, and its key is not taken."""
    endpoints = {
        "lab": {"base_url": f"{LAB}/", "price": [1, 2], "rpm": 7, "api_key_env": "LAB_KEY"},
        "other": {"base_url": HOUSE, "price": [3, 4]},
    }
    models = [{"model": "openai/a", "endpoint": "other"}, {"model": "openai/b", "endpoint": "lab"}]
    science, client, _ = resolved(tmp_path, {"endpoints": endpoints, "models": models}, "--base-url", LAB, *named)
    (name,) = client.endpoints

    assert name == (named[1] if named else LAB)
    assert {model.endpoint for model in science.models} == {name}
    assert (client.price_of(science.models[1]), client.endpoints[name].rpm) == ((1.0, 2.0), 7)
    assert client.endpoint_of(science.models[0]).api_key_env is None
    science, client, _ = resolved(
        tmp_path, {"endpoints": endpoints, "models": models}, "--base-url", LAB, "--price", "5,6"
    )
    assert client.price_of(science.models[0]) == (5.0, 6.0)


def test_a_file_with_endpoints_alone_wants_the_endpoint_named(tmp_path: Path) -> None:
    """Without models in the file, ENDPOINT/MODEL says where; the model alone is refused."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"tasks": ["nli"], "endpoints": STUDY["endpoints"]}), encoding="utf-8")

    def models(*arguments: str) -> tuple[ModelConfig, ...]:
        given = context_of(str(file), *arguments)
        given.pop("json")
        return resolve(given.pop("config"), given)[0].models

    assert [(one.endpoint, one.model) for one in models("--model", "house/openai/smol")] == [(HOUSE, "openai/smol")]
    with pytest.raises(InputError, match=r"names endpoints \(house, lab\) but no models"):
        models("--model", "openai/smol")


def test_a_file_without_models_and_endpoints_takes_any_model(tmp_path: Path) -> None:
    """A file of settings alone says nothing of addresses: the provider's own is meant, as without a file."""
    file = tmp_path / "run.yaml"
    file.write_text("tasks: [nli]\nlimit: 3\n", encoding="utf-8")
    given = context_of(str(file), "--model", "openai/gpt-4o-mini")
    given.pop("json")

    assert [(one.endpoint, one.model) for one in resolve(given.pop("config"), given)[0].models] == [
        (None, "openai/gpt-4o-mini")
    ]


@pytest.mark.parametrize("text", ["pe ep", "pe,ep", "pe, ep"])
def test_the_variable_of_a_repeatable_choice_takes_several(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commas or spaces stand between them."""
    monkeypatch.setenv("EXPLAINEVAL_ORDER", text)

    assert resolved(tmp_path, {})[0].arms.order == ("pe", "ep")


SINGLE = [option for option in run.params if isinstance(option, click.Option) and not option.multiple]
SINGLE = [option for option in SINGLE if not option.is_flag or option.secondary_opts]


@pytest.mark.parametrize("option", SINGLE, ids=lambda option: option.name)
def test_a_single_valued_option_given_two_values_says_which_holds(option: click.Option) -> None:
    """The last one holds, as everywhere, but not without a word."""
    if option.is_flag:
        words = [option.opts[0], option.secondary_opts[0]]
    else:
        values = list(option.type.choices)[:2] if isinstance(option.type, click.Choice) else ["50", "60"]
        values = ["0.5", "0.6"] if isinstance(option.type, click.FloatRange) else values
        words = [word for value in values for word in (option.opts[0], value)]
    context = run.make_context("run", list(words), parent=click.Context(app, **app.context_settings))

    told = repeated(context)

    assert len(told) == 1
    assert told[0].startswith(option.opts[0])
    assert f"the last, {words[-1]}, holds" in told[0]
    assert repeated(context) == []


def test_which_value_holds_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Also by commands that know nothing of it themselves, and standard output stays as it is."""
    with pytest.raises(SystemExit):
        main(["interventions", "show", "--task", "nli", "--limit", "2", "--limit", "1", "--json"])

    out, err = capsys.readouterr()
    assert {one["example_id"] for one in json.loads(out)} == {"nli-001"}
    assert "--limit takes one value: the last, 1, holds, not 2." in err


def test_the_same_value_given_twice_is_one_value() -> None:
    """Repeating an option without changing it contradicts nothing, and nothing is told."""
    context = run.make_context("run", ["--limit", "3", "--limit", "3"])

    assert (context.params["limit"], repeated(context)) == (3, [])


def test_a_parameter_given_two_values_is_refused(tmp_path: Path) -> None:
    """--param is repeatable, but not for one parameter."""
    with pytest.raises(InputError, match="--param top_p is given two values"):
        resolved(tmp_path, {}, "--param", "top_p=0.5", "--param", "top_p=0.9")
