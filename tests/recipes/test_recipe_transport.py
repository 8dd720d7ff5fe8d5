"""The recipe "to add a transport" of CONTRIBUTING.md, followed: one client, one line in the table of transports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name

import pytest

from explaineval.cli.app import main
from explaineval.client.stack import TRANSPORTS
from explaineval.config import Endpoint
from explaineval.records import Completion, Request


class EchoClient:
    """A transport without network: changes its answer for the word "curiously" only, and mentions it then."""

    opened: list[EchoClient] = []  # noqa: RUF012 - all clients of one test

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:
        self.endpoints, self.timeout = dict(endpoints), timeout
        self.answered = 0
        self.closed = False
        self.opened.append(self)

    async def complete(self, request: Request) -> Completion:
        """Answer B and mention the word where the prompt holds it, else answer A."""
        self.answered += 1
        changed = any("curiously" in message.content for message in request.messages or ())
        text = "Explanation: It does so curiously.\nAnswer: B" if changed else "Explanation: It does.\nAnswer: A"
        return Completion(text=text, finish_reason="stop", model="echo-1")

    async def close(self) -> None:
        """Note that the run closed this transport."""
        self.closed = True


def write_task(directory: Path) -> list[str]:
    """Six examples, of which three get the word that changes the answer; the options that name them."""
    examples, edits = [], []
    for number in range(6):
        fields = {"premise": f"A cat sleeps on mat {number}."}
        examples.append({"id": f"x{number}", "fields": fields, "options": {"A": "yes", "B": "no"}, "gold": "A"})
        where = {"example_id": f"x{number}", "kind": "word", "field": "premise", "offset": 6}
        edits.append({**where, "inserted": "curiously" if number < 3 else "quietly"})
    for name, rows in (("task.jsonl", examples), ("edits.jsonl", edits)):
        (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ["--task", f"jsonl:{directory / 'task.jsonl'}", "--interventions", str(directory / "edits.jsonl")]


def test_a_new_transport_is_used_by_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its answers arrive in metrics.json, in the table and in the signature; run.json names it, and it is closed."""
    monkeypatch.setattr(EchoClient, "opened", [])
    monkeypatch.setitem(TRANSPORTS, "echo", f"{__name__}:EchoClient")
    options = [*write_task(tmp_path), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as caught:
        main(["run", "--model", "echo/parrot", *options, "--order", "ep", "--shots", "0", "--timeout", "7"])

    out, err = capsys.readouterr()
    assert caught.value.code == 0, err
    (client,) = EchoClient.opened
    run = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert (client.timeout, client.closed, set(client.endpoints)) == (7.0, True, {None})
    assert client.answered == run["requests"]["sent"] > 0
    assert [endpoint["model"] for endpoint in run["endpoints"]] == ["echo/parrot"]
    assert "models:echo/parrot" in run["signature"]
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    (phi,) = [row for row in rows if row["metric"] == "phi_cct"]
    assert (phi["value"], phi["model"]) == (pytest.approx(1.0), "echo/parrot")
    assert "|model:echo/parrot|" in phi["signature"]
    assert "echo/parrot" in out
    assert "phi-CCT   1.00 " in out


@pytest.mark.parametrize("name", TRANSPORTS)
def test_every_line_of_the_table_names_a_client(name: str) -> None:
    """The class exists, and has what the layers above and the end of a run need."""
    found = resolve_name(TRANSPORTS[name])

    assert callable(found)
    assert callable(found.complete)
    assert callable(found.close)
