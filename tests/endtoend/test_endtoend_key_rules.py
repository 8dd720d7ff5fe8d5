"""A file alone cannot choose which secret goes where, seen at a server on a second loopback address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import explaineval
from explaineval.errors import InputError
from servers.commands import Result, WarmCommands
from servers.scripted import ScriptedServer

KEY = "stolen-4f9d-secret-17c3-value"
FOREIGN = "other-8a7b-secret-55e1-value"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A stranger's server, at an address that is not the usual one."""
    with ScriptedServer(host="127.0.0.2", script=lambda _: ("Answer: A\nExplanation: So it is.", None)) as started:
        yield started


def write(directory: Path, url: str, variable: str | None, **settings: Any) -> Path:
    """A study whose endpoint is this URL, with the variable of its key."""
    endpoint = {"base_url": url} | ({} if variable is None else {"api_key_env": variable})
    path = directory / "study.yaml"
    content = {"tasks": ["sense"], "limit": 2, "endpoints": {"lab": endpoint}}
    model = {"model": "openai/planted", "endpoint": "lab"}
    path.write_text(json.dumps({**content, "models": [model], **settings}), encoding="utf-8")
    return path


def sent(server: ScriptedServer) -> str:
    """Everything that reached the server beside the questions' words."""
    return json.dumps([server.headers, server.bodies])


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "DATABASE_URL", "LAB_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"])
def test_a_strangers_file_gets_no_secret(
    command: str, variable: str, server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """It is refused before anything is sent, and the sentence has the option to paste."""
    study = write(tmp_path, server.url, variable)

    done = warm.run(command, study, cwd=tmp_path, env={variable: KEY})

    host = server.url.removeprefix("http://").removesuffix("/v1")
    assert done.code == 2
    assert f"--allow-key {variable}@{host}" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert server.headers == []


def test_what_the_refusal_prints_can_be_pasted(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """With the option from the sentence the key is sent, and a line says which one goes where."""
    study = write(tmp_path, server.url, "LAB_KEY")
    refused = warm.run("run", study, cwd=tmp_path, env={"LAB_KEY": KEY})
    option = next(word for word in refused.stderr.split() if "@127.0.0.2" in word).rstrip(";.")

    done = warm.run("run", study, "--allow-key", option, cwd=tmp_path, env={"LAB_KEY": KEY})

    assert done.code == 0, done.stderr
    assert {headers.get("authorization") for headers in server.headers} == {f"Bearer {KEY}"}
    told = " ".join(done.stderr.split())
    assert f"LAB_KEY is sent to {server.url.removesuffix('/v1')}" in told
    assert told.count("LAB_KEY is sent to") == 1


def test_a_plan_names_variable_and_address(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """`plan` says what `run` would send, also in its document."""
    study = write(tmp_path, server.url, "EXPLAINEVAL_LAB_KEY")

    done = warm.run("plan", study, "--json", cwd=tmp_path, env={"EXPLAINEVAL_LAB_KEY": KEY})

    texts = [warning["text"] for warning in done.document["warnings"] if warning["code"] == "key_sent"]
    assert texts == [f"the key in EXPLAINEVAL_LAB_KEY is sent to {server.url.removesuffix('/v1')}."]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("options", "env", "code"),
    [
        (("--allow-key", "LAB_KEY@127.0.0.2"), {}, 0),
        ((), {"EXPLAINEVAL_ALLOW_KEY": "X@example.org, LAB_KEY@127.0.0.2"}, 0),
        (("--allow-key", "X@127.0.0.2", "--allow-key", "LAB_KEY@127.0.0.2"), {}, 0),
        (("--api-key-env", "LAB_KEY"), {}, 0),
        ((), {"EXPLAINEVAL_API_KEY_ENV": "LAB_KEY"}, 0),
        (("--allow-key", "LAB_KEY@127.0.0.2:9"), {}, 2),
        (("--allow-key", "LAB_KEY@127.0.0.1"), {}, 2),
        (("--allow-key", "OTHER@127.0.0.2"), {}, 2),
        (("--allow-key", "LAB_KEY@127.0.0.2.example.org"), {}, 2),
        (("--allow-key", "LAB_KEY"), {}, 2),
        (("--allow-key", "LAB_KEY@*"), {}, 2),
    ],
)
def test_only_the_users_own_word_allows_it(
    options: tuple[str, ...], env: dict[str, str], code: int, server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """Options and variables of the user; host, port and variable have to be those of the file."""
    study = write(tmp_path, server.url, "LAB_KEY")

    done = warm.run("run", study, *options, cwd=tmp_path, env={"LAB_KEY": KEY, **env})

    assert done.code == code, done.stderr
    assert bool(server.headers) == (code == 0)
    assert (KEY in sent(server)) == (code == 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"allow_key": ["LAB_KEY@127.0.0.2"]},
        {"key_from_file": False},
        {"endpoints": {"lab": {"base_url": "URL", "api_key_env": "LAB_KEY", "key_from_file": False}}},
    ],
)
def test_a_file_cannot_allow_itself(
    settings: dict[str, Any], server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """What only a user may say is an error in a file, with its line."""
    text = write(tmp_path, server.url, "LAB_KEY", **settings).read_text("utf-8").replace('"URL"', f'"{server.url}"')
    (tmp_path / "study.yaml").write_text(text, "utf-8")

    done = warm.run("run", "study.yaml", cwd=tmp_path, env={"LAB_KEY": KEY})

    assert done.code == 2
    assert "study.yaml:1" in done.stderr
    assert server.headers == []


def test_the_variable_without_an_endpoint_is_checked_too(tmp_path: Path, warm: WarmCommands) -> None:
    """A file may not send another secret to a provider's own address either."""
    study = write(tmp_path, "http://127.0.0.2:9/v1", None, api_key_env="DATABASE_URL", models=["openai/gpt-4o"])
    values = json.loads(study.read_text("utf-8")) | {"endpoints": {}, "models": [{"model": "openai/gpt-4o"}]}
    study.write_text(json.dumps(values), "utf-8")

    refused = warm.run("plan", study, cwd=tmp_path, env={"DATABASE_URL": KEY})
    study.write_text(json.dumps(values | {"api_key_env": "OPENAI_API_KEY"}), "utf-8")
    accepted = warm.run("plan", study, cwd=tmp_path, env={"OPENAI_API_KEY": KEY})

    assert refused.code == 2
    assert "DATABASE_URL@api.openai.com:443" in refused.stderr
    assert accepted.code == 0, accepted.stderr
    assert "OPENAI_API_KEY is sent to https://api.openai.com" in " ".join(accepted.stderr.split())


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "route", ["openai", "hosted_vllm", "anthropic", "azure", "huggingface", "databricks", "gemini", "vertex_ai",
              "bedrock", "watsonx", "cohere_chat", "mistral", "groq", "replicate", "sagemaker_chat", "cloudflare",
              "snowflake"],
)  # fmt: skip
def test_no_route_takes_other_secrets_along(
    route: str, server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """Whatever a route of litellm looks for by itself stays away from a file's address."""
    names = (
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_API_KEY", "AZURE_AD_TOKEN", "HF_TOKEN", "HUGGINGFACE_API_KEY"),
        *("DATABRICKS_API_KEY", "DATABRICKS_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY", "AWS_SECRET_ACCESS_KEY"),
        *("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "WATSONX_APIKEY", "WATSONX_TOKEN"),
        *("COHERE_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY", "REPLICATE_API_KEY", "CLOUDFLARE_API_KEY"),
        *("SNOWFLAKE_JWT", "OPENAI_ORGANIZATION_TOKEN", "VERTEXAI_CREDENTIALS"),
    )
    study = write(tmp_path, server.url, "EXPLAINEVAL_LAB_KEY", max_retries=0)
    study.write_text(study.read_text("utf-8").replace("openai/planted", f"{route}/planted"), "utf-8")
    env = {name: f"{FOREIGN}-{number}" for number, name in enumerate(names)}

    done = warm.run(
        "run", study, "--logprobs", "off", "--limit", "1", "--per-example", "1", "--max-retries", "0",
        "--timeout", "20", cwd=tmp_path, env={**env, "EXPLAINEVAL_LAB_KEY": KEY, "AWS_REGION": "us-east-1"},
    )  # fmt: skip

    assert done.code in (0, 2, 5), done.stderr
    assert FOREIGN not in sent(server)
    assert FOREIGN not in done.stdout + done.stderr


def test_python_asks_for_files_and_trusts_keywords(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is refused as on the command line; `allow_key` and `api_key_env` are the caller's own word."""
    study = write(tmp_path, server.url, "LAB_KEY")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_KEY", KEY)

    with pytest.raises(InputError, match=r"--allow-key LAB_KEY@127\.0\.0\.2"):
        explaineval.plan(study)
    assert explaineval.plan(study, allow_key=["LAB_KEY@127.0.0.2"])["total"]["misses"] > 0
    endpoints = {"lab": {"base_url": server.url, "api_key_env": "LAB_KEY"}}
    assert explaineval.plan(study, endpoints=endpoints)["total"]["misses"] > 0


def test_asking_a_strangers_pack_again_sends_no_key_to_its_addresses(
    server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """`cache verify --reask` takes addresses from the cache, where a pack may have put them."""
    options = ("--task", "sense", "--limit", "2", "--model", "openai/planted", "--base-url", server.url)
    check(warm.run("run", *options, "--cache", "theirs", cwd=tmp_path))
    check(warm.run("cache", "export", "--cache", "theirs", "--out", "pack.gz", cwd=tmp_path))
    check(warm.run("cache", "import", "pack.gz", "--cache", "mine", cwd=tmp_path))
    server.headers.clear()
    again = ("cache", "verify", "--cache", "mine", "--reask", "2", "--api-key-env", "LAB_KEY")

    refused = warm.run(*again, cwd=tmp_path, env={"LAB_KEY": KEY})
    assert refused.code == 2
    assert "--allow-key LAB_KEY@127.0.0.2" in refused.stderr
    assert server.headers == []
    check(warm.run(*again, "--allow-key", "LAB_KEY@127.0.0.2", cwd=tmp_path, env={"LAB_KEY": KEY}))
    assert KEY in sent(server)


@pytest.mark.parametrize(
    "line",
    ["!!python/object/apply:os.system [id]", "!include /etc/passwd", "!!python/name:os.environ", "!ENV ${LAB_KEY}"],
)
def test_a_files_tags_do_nothing(line: str, tmp_path: Path, warm: WarmCommands) -> None:
    """YAML tags are an error with its line."""
    (tmp_path / "study.yaml").write_text(f"tasks: [sense]\nmodels: {line}\n", "utf-8")

    done = warm.run("plan", "study.yaml", cwd=tmp_path, env={"LAB_KEY": KEY})

    assert done.code == 2
    assert "study.yaml:2" in done.stderr
    assert KEY not in done.stderr


@pytest.mark.sampled(1)
@pytest.mark.parametrize("text", ["${LAB_KEY}", "$LAB_KEY", "{{ LAB_KEY }}", "%(LAB_KEY)s"])
def test_variables_are_not_put_into_a_file(
    text: str, server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """A file cannot have a secret written into what is sent: neither into a parameter nor into an address."""
    study = write(tmp_path, server.url, None, params={"extra_body": {"note": text}})
    check(warm.run("run", study, cwd=tmp_path, env={"LAB_KEY": KEY}))
    write(tmp_path, f"{server.url}/{text}", None)
    warm.run("run", study, "--max-retries", "0", cwd=tmp_path, env={"LAB_KEY": KEY})

    assert server.headers
    assert KEY not in sent(server)


def check(done: Result) -> Result:
    """The result, which is no error."""
    assert done.code == 0, done.stdout + done.stderr
    return done
