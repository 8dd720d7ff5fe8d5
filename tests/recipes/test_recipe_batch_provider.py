"""The recipe "to add a provider's batch API" of CONTRIBUTING.md, followed: one class, one row of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from explaineval.cli.app import main
from explaineval.client.batches.providers import PROVIDERS, OpenAIBatches
from servers import shapes
from servers.batch_server import BatchServer


class LabBatches(OpenAIBatches):
    """A provider whose batches are OpenAI's with a label of its own."""

    def creation(self, items: Any, tag: str, uploaded: str | None) -> dict[str, Any]:
        """Label the batch."""
        content = super().creation(items, tag, uploaded)
        content["json"]["metadata"]["made_by"] = "lab"
        return content


def answer(shape: shapes.Shape, body: Mapping[str, Any]) -> dict[str, Any]:
    """Change the answer for the word "curiously" only, and mention it then."""
    changed = "curiously" in json.dumps(body)
    text = "Answer: B\nExplanation: It does so curiously." if changed else "Answer: A\nExplanation: It does."
    return shapes.answer(shape, str(body["model"]), text, "stop", None)


def write_task(directory: Path) -> list[str]:
    """Six examples, of which three get the word that changes the answer; the options that name them."""
    examples, edits = [], []
    for number in range(6):
        fields = {"premise": f"A cat sleeps on mat {number}."}
        examples.append({"id": f"x{number}", "fields": fields, "options": {"A": "yes", "B": "no"}, "gold": "A"})
        where = {"example_id": f"x{number}", "kind": "word", "field": "premise", "offset": 6}
        edits.append({**where, "inserted": "curiously " if number < 3 else "quietly "})
    for name, rows in (("task.jsonl", examples), ("edits.jsonl", edits)):
        (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ["--task", f"jsonl:{directory / 'task.jsonl'}", "--interventions", str(directory / "edits.jsonl")]


def test_a_new_provider_is_asked_by_batches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the row its models are refused; with it all requests go through batches, and the numbers come out."""
    monkeypatch.setenv("EXPLAINEVAL_API_KEY", "lab-0123456789abcdef")
    with BatchServer(answer=answer) as server:
        options = ["--model", "groq/parrot", "--base-url", f"{server.root}/v1", "--batch", "--batch-poll", "0.02"]
        options += [*write_task(tmp_path), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
        options += ["--shots", "0", "--logprobs", "off", "--temperature", "0", "--price", "0,0"]

        with pytest.raises(SystemExit):
            main(["run", *options])
        assert "groq/parrot cannot be asked by batches" in capsys.readouterr().err
        monkeypatch.setitem(PROVIDERS, "groq", LabBatches())
        with pytest.raises(SystemExit) as caught:
            main(["run", *options])

        out, err = capsys.readouterr()
        assert caught.value.code == 0, err
        assert server.batches
        assert {batch.metadata["made_by"] for batch in server.batches.values()} == {"lab"}
        assert max(server.billed.values()) == 1
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    (phi,) = [row for row in rows if row["metric"] == "phi_cct"]
    assert (phi["value"], phi["model"]) == (pytest.approx(1.0), "groq/parrot")
    assert "groq/parrot" in out
