"""`explaineval demo --sweep`: thirteen models of two transports in one run, with a report. The server is replaced."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from explaineval.cli.app import main
from explaineval.cli.demo import SWEEP_LEVELS, simulated_models
from explaineval.client.simulated import LEVELS, law_of
from explaineval.config import ArmConfig, ModelConfig, RunConfig
from explaineval.execution.model_run import count_beginnings
from explaineval.records import SIMULATED_NOTE, Completion, Request
from explaineval.scoring.comparisons import compare_runs
from servers import json_page

ROOT = Path(__file__).parents[2]
EXAMPLES = 2


class WordPicker:
    """Stands for the embedded server: its answer depends on the input, and it explains by the input's last line."""

    threads = 2
    asked: ClassVar[Counter[str]] = Counter()

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def complete(self, request: Request) -> Completion:
        """An answer to the question that is asked, in the form that is asked for."""
        WordPicker.asked[request.model] += 1
        text = request.prompt or "\n".join(message.content for message in request.messages or ())
        letter = "AB"[len(text) % 2]
        if request.prompt is not None:
            answer = f" {letter}" if text.endswith("Answer:") else " The first sentence is odd."
        else:
            answer = (
                "Explanation: The first sentence is odd." if len(request.messages or ()) > 1 else f"Answer: {letter}"
            )
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        return Completion(text=answer, finish_reason="stop", usage=usage)

    async def close(self) -> None:
        """Nothing to stop."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with weights that are none, and no server."""
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF and no weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("explaineval.client.endpoints.llamacpp.EmbeddedClient", WordPicker)
    WordPicker.asked.clear()
    return tmp_path


def sweep(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run the sweep; what it prints on standard output."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--sweep", "--weights", "tiny.gguf", "--limit", str(EXAMPLES), "--out", "run", *options])
    out, err = capsys.readouterr()
    assert caught.value.code == 0, err
    return out


@pytest.mark.slow
def test_the_sweep_ends_in_a_report_and_asks_nothing_twice(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded model is asked by its server in both styles, the simulated ones by themselves in one."""
    document: dict[str, Any] = json.loads(sweep(capsys, "--json"))
    trials = [json.loads(line) for line in (place / "run" / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    arms = {(trial["model"].partition("/")[0], trial["style"], trial["verbosity"]) for trial in trials}
    page = (place / "run" / "report.html").read_text(encoding="utf-8")

    assert document["report"] == str(Path("run") / "report.html")
    json_page.check("demo --sweep", document)
    assert len({trial["model"] for trial in trials}) == 13
    assert arms == {
        (provider, style, level)
        for provider, style in (("openai", "chat"), ("openai", "completion"), ("simulated", "completion"))
        for level in SWEEP_LEVELS
    }
    assert {trial["order"] for trial in trials} == {"pe2"}
    assert list(WordPicker.asked) == ["openai/tiny"]
    assert SIMULATED_NOTE in page
    assert "openai/tiny" in page
    pictured = re.findall(r'"#([\w-]+)', (ROOT / "scripts" / "picture").read_text(encoding="utf-8"))
    assert pictured
    assert [name for name in pictured if f'id="{name}"' not in page] == []  # what the README's picture is made of
    check_groups(place / "run")

    WordPicker.asked.clear()
    text = sweep(capsys)

    assert not WordPicker.asked
    assert " 0 sent" in " ".join(text.split())
    assert f"Open it in a browser: {(place / 'run' / 'report.html').as_uri()}" in text.splitlines()


def check_groups(directory: Path) -> None:
    """All thirteen can be compared, at each level and over all levels, and nothing else differs between them."""
    groups = [result.group for result in compare_runs([directory])]

    whole = [group for group in groups if len({system.model for system in group.systems}) == 13]
    assert [group.confounded for group in whole] == [()] * 4
    assert [set(group.levels) for group in whole if group.levels] == [set(SWEEP_LEVELS)]


def test_the_simulated_models_are_balanced() -> None:
    """Three families of four: a trend over size needs three, and tuning is not mixed up with size or family."""
    names = [model.model.removeprefix("simulated/").removesuffix("-instruct") for model in simulated_models()]

    assert len(names) == 12
    assert Counter(names) == dict.fromkeys(names, 2)
    assert Counter(name.partition("-")[0] for name in names) == {"ash": 4, "birch": 4, "cedar": 4}


def test_the_page_says_what_the_sweep_should_find() -> None:
    """docs/simulated.md: phi-CCT from its formula at the models' impact rate, F-AUROC by the trapezoid rule."""
    page = (ROOT / "docs" / "simulated.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.-]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)

    assert [f"simulated/{row[0]}" for row in rows] == [model.model for model in simulated_models()]
    for name, *values in rows:
        law = law_of(f"simulated/{name}")
        p, mentioned = law.impact, law.impact * law.tpr + (1 - law.impact) * law.fpr
        phi = (law.tpr - law.fpr) * math.sqrt(p * (1 - p) / (mentioned * (1 - mentioned)))
        levels = sorted(LEVELS[level] for level in SWEEP_LEVELS)
        fpr = [0, *(1 - (1 - law.fpr) ** level for level in levels), 1]
        tpr = [0, *(1 - (1 - law.tpr) ** level for level in levels), 1]
        assert list(map(float, values)) == pytest.approx([law.tpr, law.fpr, phi, np.trapezoid(tpr, fpr)], abs=0.0051)


@pytest.mark.parametrize(
    ("arms", "beginnings"),
    [
        (ArmConfig(order=("ep",), style=("completion",)), 1),
        (ArmConfig(order=("pe2",), style=("completion",)), 2),
        (ArmConfig(order=("pe2",), style=("chat", "completion"), verbosity=SWEEP_LEVELS), 8),
        (ArmConfig(order=("pe", "ep"), style=("chat",), verbosity=("brief", "normal")), 4),
    ],
    ids=["demo", "two calls", "sweep", "two orders"],
)
def test_the_server_remembers_each_beginning_of_a_prompt(arms: ArmConfig, beginnings: int) -> None:
    """The answer of order pe2 is asked for in the same words at every level."""
    model = ModelConfig(model="openai/tiny", endpoint="embedded:0")
    config = RunConfig(tasks=("sense",), models=(model,), arms=arms)

    assert beginnings == count_beginnings(config, model)
