"""Record what version 0.2 leaves on a disk, for the tests of upgrades.

It is run with the code of that version (commit f867444), in an environment of its own and an empty directory:
`PYTHONPATH=tests:tests/pinned .venv/bin/python THIS_FILE EMPTYDIR TARGET.tar.xz`, from a checkout of that commit. What
it recorded is kept: nobody can make an older version's files with a newer version.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from servers.scripted import ScriptedServer
from servers.service import ENVIRONMENT, TOKENS, Service

PORT = 18_642
"""The URL is part of the cache key, so the port is always the same. Nothing needs to listen there afterwards."""
URL = f"http://127.0.0.1:{PORT}/v1"
ARMS = ("--order", "pe", "--order", "pe2", "--order", "ep")
SMALL = ("--limit", "4", "--max-tokens", "200")
COMMANDS: dict[str, tuple[str, ...]] = {
    "by-url": ("--task", "sense", "--model", "openai/planted", "--base-url", URL, *ARMS, *SMALL),
    "cues": ("--task", "nli", "--model", "openai/planted", "--base-url", URL, "--interventions", "cues.jsonl", *SMALL),
    "by-name": ("study.yaml",),
    "called": ("--task", "sense", "--model", "openai/called", "--base-url", URL, "--endpoint-name", "box", *SMALL),
    "shards/1": ("--task", "sense", "--model", "simulated/faithful", "--limit", "8", "--shard", "1/2"),
    "shards/2": ("--task", "sense", "--model", "simulated/faithful", "--limit", "8", "--shard", "2/2"),
    "direct": ("--task", "sense", "--model", "openai/planted", "--base-url", URL, "--transport", "direct",
               "--style", "completion", *SMALL),
}  # fmt: skip
"""The runs by their directories."""
STUDY = f"""\
tasks: [sense]
endpoints:
  lab: {{base_url: "{URL}", price: [0.1, 0.4]}}
models: [{{model: openai/lab, endpoint: lab}}]
arms: {{order: [pe, ep]}}
limit: 4
max_tokens: 200
"""
SETTINGS: dict[str, Any] = {
    "tokens": {"ann": {"token_env": "TOKEN_ANN", "max_usd": 5}, "boss": {"token_env": "TOKEN_BOSS", "admin": True}},
    "endpoints": {"lab": {"base_url": URL, "price": [0.1, 0.4]}},
    "embedded": False,
}
SUBMITTED: tuple[dict[str, Any], ...] = (
    {"tasks": ["sense"], "models": [{"model": "openai/planted", "endpoint": "lab"}], "limit": 3, "max_tokens": 200},
    {"tasks": ["sense"], "models": [{"model": "simulated/faithful"}], "limit": 3},
)


def call(*arguments: str | Path, cwd: Path) -> str:
    """Run a command to its end and return its standard output."""
    command = [sys.executable, "-m", "explaineval", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def record(work: Path) -> None:
    """Make a cache, run directories, a pack, a bundle and the data folder of a service."""
    (work / "study.yaml").write_text(STUDY, encoding="utf-8")
    call(
        "interventions", "build", "--task", "nli", "--limit", "4", "--kind", "cue_user", "--out", "cues.jsonl", cwd=work
    )
    call("probe", "--model", "openai/planted", "--base-url", URL, "--cache", "cache", cwd=work)
    for name, command in COMMANDS.items():
        call("run", *command, "--cache", "cache", "--out", f"runs/{name}", cwd=work)
    call("merge", "runs/shards/1", "runs/shards/2", "--out", "runs/merged", cwd=work)
    call("judge", "runs/cues", "--judge-model", "openai/judge", "--judge-base-url", URL, "--cache", "cache", cwd=work)
    call("score", "runs/cues", "--mention", "word", "--mention", "substring", cwd=work)
    call("cache", "export", "--cache", "cache", "--run", "runs/by-name", "--out", "by-name.pack.gz", cwd=work)
    call("export", "runs/by-name", "--out", "by-name.zip", "--cache", "cache", cwd=work)
    call("export", "runs/called", "--out", "called.zip", "--cache", "cache", cwd=work)
    service = Service(work / "service", SETTINGS, ENVIRONMENT)
    service.start()
    finished = [service.wait(service.submit(settings, TOKENS["ann"]), TOKENS["ann"]) for settings in SUBMITTED]
    assert [run["state"] for run in finished] == ["finished", "finished"], (finished, service.log())
    assert service.stop() == 0
    (work / "service" / "serve.log").unlink()
    (work / "service.json").write_text(json.dumps(finished, indent=1), encoding="utf-8")


def answer(prompt: str) -> tuple[str | None, dict[str, float] | None]:
    """The scripted model's answer, or the judge's."""
    import pinned_model

    return (pinned_model.judge if "<explanation>" in prompt else pinned_model.answer)(prompt)


def main(work: Path, target: Path) -> None:
    """Record into `work`, and pack it."""
    server = ScriptedServer(script=answer)
    server.port = PORT
    with server:
        record(work)
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted(work.rglob("*")):
            if path.is_file() and not path.name.endswith(("-shm", ".lock")):
                entry = archive.gettarinfo(path, str(path.relative_to(work)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                with path.open("rb") as handle:
                    archive.addfile(entry, handle)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
