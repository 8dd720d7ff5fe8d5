"""The configuration file: what is wrong is told with its line, and paths are relative to the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.config import ClientConfig, ModelConfig, RunConfig, build, read_config
from explaineval.config.configs import identify
from explaineval.config.sources import PATHS
from explaineval.errors import InputError

HEAD = "tasks: [nli]\nmodels:\n  - {model: openai/smol}\n"


def put(tmp_path: Path, text: str) -> Path:
    """A configuration file."""
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (HEAD + "sead: 1\n", 4, "sead"),
        ("colour: red\n" + HEAD, 1, "colour"),
        (HEAD + "arms:\n  order: [pe]\n  ordr: [ep]\n", 6, "ordr"),
        (HEAD + "interventions:\n  kind: random_word\n\n  per_exmple: 3\n", 7, "per_exmple"),
        (HEAD + "endpoints:\n  lab:\n    base_url: http://127.0.0.1:1/v1\n    rps: 3\n", 7, "rps"),
        ("tasks: [nli]\nmodels:\n  - {model: a/b}\n  - model: c/d\n    famly: x\n", 5, "famly"),
    ],
)
def test_an_unknown_key_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    """At every depth."""
    with pytest.raises(InputError, match=rf"run\.yaml:{line}: .*{message}") as caught:
        read_config(put(tmp_path, text))

    assert "unknown key" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    """The message says what to do: write the key that was meant, or look the keys up."""
    with pytest.raises(InputError, match=r"run\.yaml:4: unknown key 'sead'; did you mean seed\?"):
        read_config(put(tmp_path, HEAD + "sead: 1\n"))
    with pytest.raises(InputError, match=r"run\.yaml:4: unknown key 'colour'; `explaineval run --help` names"):
        read_config(put(tmp_path, HEAD + "colour: red\n"))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Whatever was given for a configuration may have no end."""
    with pytest.raises(InputError, match=r"larger than 1 MiB"):
        read_config(put(tmp_path, HEAD + "# x" * 400_000))


@pytest.mark.parametrize("model", ["openai/" + chr(0xDCFF), "openai/" + chr(0xD800)])
def test_a_text_that_cannot_be_written_is_refused(model: str) -> None:
    """Bytes of the command line that are not UTF-8, and halves of surrogate pairs."""
    with pytest.raises(InputError, match=r"options: models: .* not UTF-8"):
        build(RunConfig, {"tasks": ["nli"], "models": [{"model": model}]}, "options")


def test_a_home_of_nobody_is_a_plain_path(tmp_path: Path) -> None:
    """As in a shell; what is missing there is told later."""
    values = read_config(put(tmp_path, HEAD + "prompts: ~nobody-of-this-name/x\n"))

    assert values["prompts"] == str(tmp_path / "~nobody-of-this-name" / "x")


def test_anchors_that_multiply_are_refused(tmp_path: Path) -> None:
    """A few lines that stand for a hundred million values."""
    levels = "".join(f", y{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 8))

    with pytest.raises(InputError, match=r"run\.yaml:4: bad YAML: it holds more than 100,000 values"):
        read_config(put(tmp_path, f"{HEAD}params: {{extra_body: {{y0: &a0 [x, x, x]{levels}}}}}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "samples: 0\n", r"run\.yaml:4: samples"),
        (HEAD + "timeout: soon\n", r"run\.yaml:4: timeout"),
        (HEAD + "arms: {order: [pe, pe]}\n", r"run\.yaml:4: .*none twice"),
        (HEAD + "endpoints:\n  lab:\n    base_url: lab.example\n", r"run\.yaml:6: .*lab\.example"),
        ("tasks: [nli]\nmodels:\n  - {model: gpt}\n", r"run\.yaml:3: .*names no provider"),
        ("tasks: [nli\nmodels: 3\n", r"run\.yaml:\d: bad YAML"),
        ("tasks: [nli]\n\tmodels: []\n", r"run\.yaml:2: bad YAML"),
        (HEAD + "limit: 2026-13-45\n", r"run\.yaml:4: bad YAML: .*timestamp"),
        (HEAD + "limit: !!int x\n", r"run\.yaml:4: bad YAML: .*int"),
        (HEAD + "limit: !!int ''\n", r"run\.yaml:4: bad YAML: .*int"),
        (HEAD + "offline: !!bool x\n", r"run\.yaml:4: bad YAML: .*bool"),
        (HEAD + "max_usd: !!float x\n", r"run\.yaml:4: bad YAML: .*float"),
        (HEAD + "limit: !!timestamp x\n", r"run\.yaml:4: bad YAML: .*timestamp"),
        (HEAD + "limit: !law x\n", r"run\.yaml:4: bad YAML: .*the tag '!law'"),
        (
            HEAD + f"limit: {'9' * 1001}\n",
            r"run\.yaml:4: bad YAML: a value of more than 1,000 characters is read as int",
        ),
        (HEAD + f"limit: 1{':1' * 600}\n", r"run\.yaml:4: bad YAML: a value of more than 1,000 .* as int"),
        (HEAD + f"limit: !!int '1{':1' * 600}'\n", r"run\.yaml:4: bad YAML: a value of more than 1,000 .* as int"),
        (HEAD + f"max_usd: 1{':1' * 600}.5\n", r"run\.yaml:4: bad YAML: a value of more than 1,000 .* as float"),
        (HEAD + f"limit: 2026-01-01 00:00:00.{'9' * 1000}\n", r"run\.yaml:4: .* 1,000 .* as timestamp: quote it"),
        (HEAD + 'prompts: "\\U00110000"\n', r"run\.yaml:4: bad YAML: a number that is too large\.$"),
        (HEAD + 'prompts: "\\UFFFFFFFF"\n', r"run\.yaml:4: bad YAML: a number that is too large\.$"),
        (f"%YAML 1.{'9' * 5000}\n---\n" + HEAD, r"run\.yaml:1: bad YAML: a number that is too large\.$"),
        (HEAD + f"prompts: [{'x, ' * 100_001}]\n", r"run\.yaml:4: bad YAML: it holds more than 100,000 values"),
        (HEAD + "columns: {1: x}\n", r"run\.yaml:4: the key '1' is not read as a text: put it in quotes"),
        (HEAD + "true: 3\n", r"run\.yaml:4: the key 'true' is not read as a text"),
        (HEAD + "columns:\n  ? [a]\n  : x\n", r"run\.yaml:5: a key must be a text, not a list"),
        (HEAD + '"li\\0mit": 3\n', r"run\.yaml:4: a character that is not allowed"),
        (HEAD + "prompts: [x]\n", r"run\.yaml:4: prompts: this must be a path"),
        (HEAD + f"limit: {'[' * 20_000}{']' * 20_000}\n", r"run\.yaml:4: bad YAML: it is nested too deep"),
        (HEAD + "params: {extra_body: &a {x: *a}}\n", r"run\.yaml:4: bad YAML: an anchor holds itself"),
        ("- tasks\n", "expected a mapping"),
        ("", "expected a mapping"),
    ],
)
def test_a_bad_value_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    """Values out of range, of the wrong type, URLs that are none, and YAML that is none."""
    with pytest.raises(InputError, match=message):
        read_config(put(tmp_path, text))


def test_keys_taken_over_by_a_merge_key_are_read(tmp_path: Path) -> None:
    """Also where one of them is given again."""
    endpoints = "endpoints:\n  lab: &lab {base_url: 'http://127.0.0.1:1/v1', rpm: 3}\n  other: {<<: *lab, rpm: 4}\n"

    values = read_config(put(tmp_path, HEAD + endpoints))

    assert values["endpoints"]["other"] == {"base_url": "http://127.0.0.1:1/v1", "rpm": 4}


def test_a_long_text_is_no_number(tmp_path: Path) -> None:
    """Only what is read as a number, a date or the like is bounded."""
    assert read_config(put(tmp_path, HEAD + f"prompts: '{'9' * 2000}'\n"))["prompts"].endswith("9" * 2000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [nli]\nmodels:\n  - {modle: a/b}\n", r":3: models, entry 1, modle: .*did you mean model\?$"),
        ("tasks: [nli]\nmodels:\n  - {family: x}\n", r":3: .*model: this key is missing; write for example \{model: o"),
        ("tasks: [nli]\nmodels:\n  - a/b\n", r":3: models, entry 1: write a mapping, for example \{model: openai/"),
        ("tasks: [nli]\nmodels: {model: a/b}\n", r":2: models: write a list, for example \[\{model: openai/"),
        ("tasks: [nli]\nmodels:\n  - {model: a/b, parameters: 7b}\n", r":3: .*parameters: write a number, .* 7e9\.$"),
        ("tasks: [nli]\nmodels:\n  - {model: a/b, parameters: -1}\n", r":3: .*parameters: this must be greater than 0"),
        ("tasks: [nli]\nmodels:\n  - {model: a/b, tuned: yes}\n", r":3: .*tuned: this must be 'instruct' or 'base'"),
        (HEAD + "limit: ten\n", r":4: limit: write a whole number"),
        (HEAD + "arms: pe\n", r":4: arms: write a mapping, for example \{order: \[pe\]"),
        (HEAD + "arms:\n  order: [pe3]\n", r":5: arms\.order, entry 1: this must be 'pe', 'pe2' or 'ep'"),
        (HEAD + "arms:\n  colour: [red]\n", r":5: .*unknown key; choose from order, style, shots, verbosity\.$"),
        (HEAD + "endpoints:\n  lab: here\n", r":5: endpoints\.lab: write a mapping, for example \{base_url: "),
        (HEAD + "endpoints:\n  lab: {older_nam: x}\n", r":5: .*choose from base_url, api_key_env, price, [a-z_, ]*\.$"),
        (
            f"endpoints:\n  lab: {{price: [1, 2]}}\n{HEAD}  - {{model: c/d, endpoint: lba}}\n",
            r":6: models, entry 2, endpoint: 'lba' is not among the endpoints of this file \(lab\)",
        ),
        (HEAD + "columns: {id: ID}\n", r":4: columns: no field is named"),
        (HEAD + "columns:\n  premise: 3\n", r":5: columns\.premise: this must be a text"),
    ],
)
def test_a_mistake_in_a_sweep_says_what_to_write(tmp_path: Path, text: str, message: str) -> None:
    """Its line, the key, and what belongs there, in one sentence."""
    with pytest.raises(InputError, match=rf"run\.yaml{message}") as caught:
        read_config(put(tmp_path, text))

    assert "pydantic" not in str(caught.value)
    assert "Input should" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(InputError, match=r"gone\.yaml: no such configuration file"):
        read_config(tmp_path / "gone.yaml")


@pytest.mark.parametrize("name", PATHS)
def test_a_relative_path_is_relative_to_the_file(tmp_path: Path, name: str) -> None:
    """Wherever the command is given."""
    directory = tmp_path / "deep"
    directory.mkdir()

    found = read_config(put(directory, HEAD + f"{name}: sub/x\n"))

    assert str(directory / "sub" / "x") == str(found[name])


def test_tasks_and_interventions_are_relative_to_the_file(tmp_path: Path) -> None:
    """Paths after a task's name and the interventions file; absolute ones stay as they are."""
    text = "tasks: [nli, 'esnli:e.csv', 'comve:/abs', 'jsonl:../t.jsonl']\ninterventions: {file: iv/F.jsonl}\n"

    found = read_config(put(tmp_path, text))

    assert ["nli", f"esnli:{tmp_path}/e.csv", "comve:/abs", f"jsonl:{tmp_path}/../t.jsonl"] == found["tasks"]
    assert f"{tmp_path}/iv/F.jsonl" == str(found["interventions"]["file"])


def test_no_path_of_the_configuration_is_forgotten() -> None:
    """Every field that holds a path is among those made relative."""
    fields = {**RunConfig.model_fields, **ClientConfig.model_fields}
    paths = {name for name, field in fields.items() if "Path" in str(field.annotation)}

    assert paths | {"out"} == set(PATHS)


def test_the_contracts_example_is_read(tmp_path: Path) -> None:
    """Endpoints, models with what is known of them, arms and interventions."""
    text = (
        'tasks: [nli, "esnli:esnli_dev.csv"]\n'
        "endpoints:\n"
        '  lab: {base_url: "http://127.0.0.1:8000/v1", api_key_env: LAB_KEY, price: [0.1, 0.4], max_connections: 64}\n'
        "models:\n"
        "  - {model: openai/smol, endpoint: lab, family: smollm2, parameters: 1.35e8, tuned: instruct}\n"
        "arms: {order: [pe], style: [chat], shots: [0], verbosity: [normal]}\n"
        "interventions: {kind: random_word, per_example: 4}\n"
        "max_tokens: 64\n"
    )
    values = read_config(put(tmp_path, text))
    client = build(ClientConfig, {"endpoints": values.pop("endpoints")}, "f")

    science = build(RunConfig, values, "f")

    assert science.models[0].parameters == 135_000_000
    assert client.connections_of(science.models[0]) == 64
    assert client.price_of(science.models[0]) == (0.1, 0.4)
    assert client.endpoint_of(science.models[0]).api_key_env == "LAB_KEY"


def test_a_model_at_an_unknown_endpoint_is_refused() -> None:
    """The endpoint is named."""
    with pytest.raises(InputError, match="the endpoint 'lab', which is not defined"):
        ClientConfig().endpoint_of(ModelConfig(model="a/b", endpoint="lab"))


@pytest.mark.parametrize(
    "name", ["model", "messages", "max_tokens", "temperature", "api_key", "api_base", "n", "stream"]
)
def test_a_parameter_of_our_own_is_refused(name: str) -> None:
    """What we set ourselves, or what would send a request elsewhere, cannot be slipped in."""
    config = build(RunConfig, {"tasks": ["nli"], "models": [{"model": "a/b"}], "params": {name: 1}}, "options")

    with pytest.raises(InputError, match=f"--param {name} is not allowed"):
        config.require_params()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (HEAD + "limit: 1\nseed: 2\nlimit: 3\n", 6, "limit"),
        (HEAD + "arms:\n  order: [pe]\n  order: [ep]\n", 6, "order"),
        ("tasks: [nli]\nmodels:\n  - model: a/b\n    model: c/d\n", 4, "model"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, line: int, key: str) -> None:
    """At every depth: YAML by itself would keep the last one."""
    with pytest.raises(InputError, match=rf"run\.yaml:{line}: the key '{key}' stands twice"):
        read_config(put(tmp_path, text))


@pytest.mark.parametrize(
    "line",
    [
        "tasks: ['csv:../home/.ssh/id_rsa']",
        "tasks: ['jsonl:link.jsonl']",
        "tasks: ['esnli:.env']",
        "tasks: ['csv:/etc/passwd']",
        "prompts: ../home/.config",
        "shots_from: /proc/self/environ",
        "interventions: {file: /etc/passwd}",
    ],
)
def test_a_file_cannot_name_where_secrets_are_kept(tmp_path: Path, line: str) -> None:
    """Its text would be sent to an address that the same file names; a link is followed first."""
    secret = tmp_path / "home" / ".ssh" / "id_rsa"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    (tmp_path / "home" / ".config").mkdir()
    study = tmp_path / "study"
    study.mkdir()
    (study / "link.jsonl").symlink_to(secret)
    head = "models:\n  - {model: openai/smol}\n" + ("" if line.startswith("tasks") else "tasks: [nli]\n")

    with pytest.raises(InputError, match=r"run\.yaml:\d: .* lies in a hidden or system folder"):
        read_config(put(study, head + line + "\n"))


def test_files_outside_of_the_folder_are_noted(tmp_path: Path) -> None:
    """They may be meant, and are told before anything is sent; those of its own folder need no word."""
    study = tmp_path / "study"
    study.mkdir()
    (study / "shots.jsonl").touch()
    text = "tasks: [nli, 'jsonl:own.jsonl', 'esnli:../dev.csv']\nshots_from: shots.jsonl\nmodels: [{model: openai/m}]\n"
    values = read_config(put(study, text))

    assert values["files_outside"] == [f"esnli:{study / '../dev.csv'}"]


@pytest.mark.parametrize("line", ["tasks: ['csv:loop.csv']", "prompts: loop.csv", "interventions: {file: loop.csv}"])
def test_a_link_that_leads_back_to_itself_is_told(tmp_path: Path, line: str) -> None:
    """It leads nowhere; the sentence has its line."""
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    head = "models:\n  - {model: openai/smol}\n" + ("" if line.startswith("tasks") else "tasks: [nli]\n")

    with pytest.raises(InputError, match=r"run\.yaml:\d: .*loop\.csv is a link that leads back to itself\."):
        read_config(put(tmp_path, head + line + "\n"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + 'prompts: "a\\0b"\n', 4),
        (HEAD + 'cache: "\\x00"\n', 4),
        ('models: [{model: openai/m}]\ntasks:\n  - "csv:a\\0.csv"\n', 3),
        (HEAD + 'interventions:\n  file: "a\\u0000"\n', 5),
    ],
)
def test_a_nul_character_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    """No path can hold one."""
    with pytest.raises(InputError, match=rf"run\.yaml:{line}: a character that is not allowed"):
        read_config(put(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://127.0.0.1:1/v1", "is no URL"),
        ("", "1 to 200 characters"),
        ("  ", "only spaces"),
        ("x" * 201, "1 to 200"),
    ],
)
def test_a_name_that_cannot_stand_for_an_endpoint_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """In a file, in settings, and before it becomes part of a cache key."""
    entry = {"base_url": "http://127.0.0.1:2/v1", "endpoint_name": name}
    with pytest.raises(InputError, match=message):
        read_config(put(tmp_path, HEAD + f"endpoints: {{lab: {json.dumps(entry)}}}\n"))
    with pytest.raises(InputError, match=message):
        identify({"endpoints": {"lab": entry}}, "settings")


def test_one_address_under_two_names_is_one_endpoint() -> None:
    """With the same settings they are the same; with different ones the sentence names both."""
    entry = {"base_url": "http://127.0.0.1:2/v1/", "rpm": 3}
    url = "http://127.0.0.1:2/v1"
    models = [{"model": "a/b", "endpoint": name} for name in ("lab", url)]
    values: dict[str, Any] = {"endpoints": {"lab": entry, url: {**entry, "base_url": url}}, "models": models}
    identify(values, "settings")

    assert list(values["endpoints"]) == [url]
    assert [model["endpoint"] for model in values["models"]] == [url, url]
    with pytest.raises(InputError, match=r"are the same one .* with different settings"):
        identify({"endpoints": {"lab": entry, url: {"base_url": url, "rpm": 4}}}, "settings")
