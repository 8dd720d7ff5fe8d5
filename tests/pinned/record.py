"""Record the pinned results anew: `PYTHONPATH=tests:tests/pinned python -m record WORKDIR`, with an empty WORKDIR.

Only a change that is meant to move numbers, prompts or keys may be followed by a recording, and CHANGELOG.md names it.
The demo's four examples are asked of the real model; the planted runs of a scripted one. What users see of results is
recorded by `goldens.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pinned_model
from pinned_runs import ARMS, DATA, DEMO, planted_config, rows_of, trials_of, write

from servers.scripted import ScriptedServer

EXAMPLES, WORDS = 5, 3


def call(*arguments: str | Path, cwd: Path) -> str:
    """Run a command to its end and return its standard output."""
    command = [sys.executable, "-m", "explaineval", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def ask(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    """Run a command and return its JSON document."""
    document: dict[str, Any] = json.loads(call(*arguments, "--json", cwd=cwd))
    return document


def make_interventions(work: Path) -> None:
    """Ready words of two bundled tasks, two cues with controls, and a null edit, for five examples each."""
    lines: list[str] = []
    for kind in ("cue_user", "cue_expert"):
        out = work / f"{kind}.jsonl"
        call("interventions", "build", "--task", "nli", "--task", "sense", "--limit", "5", "--kind", kind,
             "--out", out, cwd=work)  # fmt: skip
        lines += out.read_text("utf-8").splitlines()
    tasks = Path(__file__).parents[2] / "src" / "explaineval" / "tasks"
    for task in ("nli", "sense"):
        words: dict[str, int] = {}
        for line in (tasks / f"{task}.interventions.jsonl").read_text("utf-8").splitlines():
            entry = json.loads(line)
            words[entry["example_id"]] = words.get(entry["example_id"], 0) + 1
            if len(words) <= EXAMPLES and words[entry["example_id"]] <= WORDS:
                lines.append(json.dumps({**entry, "task": task}, ensure_ascii=False))
        for line in (tasks / f"{task}.jsonl").read_text("utf-8").splitlines()[:EXAMPLES]:
            example = json.loads(line)
            field, text = next(iter(example["fields"].items()))
            at = text.index(" ") + 1
            edit = {"task": task, "example_id": example["id"], "kind": "null_edit", "field": field, "offset": at}
            lines.append(
                json.dumps({**edit, "inserted": " ", "edited": f"{text[:at]} {text[at:]}"}, ensure_ascii=False)
            )
    (DATA / "interventions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def main(work: Path) -> None:
    """Record packs and results."""
    work.mkdir(parents=True, exist_ok=True)
    DATA.mkdir(exist_ok=True)
    if (DATA / "demo.pack.gz").exists():  # a recording that only reads answers anew needs no real model
        call("cache", "import", DATA / "demo.pack.gz", "--cache", "demo-cache", cwd=work)
    else:
        call("demo", "--limit", "4", "--cache", "demo-cache", "--out", "first", cwd=work)
        call("cache", "export", "--cache", "demo-cache", "--out", DATA / "demo.pack.gz", cwd=work)
    (work / "demo.yaml").write_text(DEMO, "utf-8")
    document = ask("run", "demo.yaml", "--offline", "--cache", "demo-cache", "--out", "demo", cwd=work)
    write("demo", {"trials": trials_of(work / "demo"), "rows": rows_of(document)})
    make_interventions(work)
    shutil.copy(DATA / "interventions.jsonl", work / "interventions.jsonl")
    with ScriptedServer(script=pinned_model.answer) as server, ScriptedServer(script=pinned_model.judge) as judging:
        for arm in ARMS:
            (work / f"{arm}.yaml").write_text(planted_config(arm, server.url), "utf-8")
            document = ask("run", f"{arm}.yaml", "--cache", "cache", "--out", arm, cwd=work)
            judged = ask("judge", arm, "--judge-model", "openai/judge", "--judge-base-url", judging.url,
                         "--cache", "judged", cwd=work)  # fmt: skip
            science = json.loads((work / arm / "run.json").read_text("utf-8"))["science"]
            write(arm, {"trials": trials_of(work / arm), "rows": rows_of(document), "judged": rows_of(judged),
                        "prompts": science["growing"]["prompts"], "signature": document["signature"]})  # fmt: skip
    call("cache", "export", "--cache", "cache", "--out", DATA / "planted.pack.gz", cwd=work)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
