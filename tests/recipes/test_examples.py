"""The files of examples/: they are valid, they keep what they promise, and the offline one finds its planted trend."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from explaineval.cli.app import main
from explaineval.config import ClientConfig, ModelConfig, RunConfig, arms_for, build, read_config
from explaineval.planning.prepare import prepare

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(path for path in EXAMPLES.glob("*.yaml") if path.name != "serve.yaml")  # settings of the service


def configured(path: Path) -> tuple[RunConfig, ClientConfig]:
    """What a configuration file says."""
    values = read_config(path)
    client = {name: values.pop(name) for name in list(values) if name in ClientConfig.model_fields}
    return build(RunConfig, values, path.name), build(ClientConfig, client, path.name)


def by_family(models: tuple[ModelConfig, ...]) -> dict[str, dict[float, set[str]]]:
    """Family → number of parameters → `base`, `instruct`."""
    families: dict[str, dict[float, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model in models:
        assert model.family is not None
        assert model.parameters is not None
        assert model.tuned is not None
        families[model.family][model.parameters].add(model.tuned)
    return families


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_family_has_both_members_in_several_sizes(path: Path) -> None:
    """A trend over size and a comparison of pretrained with instruction-tuned models are possible."""
    families = by_family(prepare(*configured(path)).config.models)

    assert len(families) >= 4
    assert all(len(sizes) >= 2 for sizes in families.values())
    assert {frozenset(tuned) for sizes in families.values() for tuned in sizes.values()} == {
        frozenset({"base", "instruct"})
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_models_are_asked_alike(path: Path) -> None:
    """One style with the same shots for all, so that a difference cannot come from the prompt."""
    config, _ = configured(path)

    assert len({tuple(arms_for(config, model)) for model in config.models}) == 1
    assert len(config.arms.style) == 1


def test_families_name_their_sources_and_no_prices() -> None:
    """Above the models of each family stands the address of a card or report; a price is the user's to give."""
    text = (EXAMPLES / "families.yaml").read_text(encoding="utf-8")
    config, client = configured(EXAMPLES / "families.yaml")
    blocks = text.partition("\nmodels:\n")[2].split("\n\n")

    assert len(blocks) == len(by_family(config.models))
    assert all(re.match(r"  # https://(huggingface\.co|arxiv\.org)/", block) for block in blocks)
    assert client.price is None
    assert [entry.price for entry in client.endpoints.values()] == [None]
    assert {model.endpoint for model in config.models} == set(client.endpoints)


def test_the_page_names_every_file() -> None:
    """README.md tells of each example how it is used."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert [path.name for path in FILES] == ["families.yaml", "simulated.yaml"]
    assert all(f"explaineval run examples/{path.name}" in page for path in FILES)


@pytest.mark.slow
def test_the_offline_sweep_finds_the_planted_trend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three families of three sizes on some of the examples: phi-CCT rises with size, as their laws say."""
    monkeypatch.chdir(tmp_path)
    models = [
        f"--model=simulated/{family}-{size}" for family in ("ash", "birch", "elm") for size in ("0.1b", "1b", "10b")
    ]

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main([*arguments])
        assert caught.value.code == 0
        return capsys.readouterr().out

    call("run", str(EXAMPLES / "simulated.yaml"), *models, "--limit", "24", "--out", "out")
    document: dict[str, Any] = json.loads(call("compare", "out", "--json"))
    families = [family for group in document["groups"] for family in group["families"]]
    slopes = {family["verbosity"]: family["trend"]["value"] for family in families if family["metric"] == "phi_cct"}

    assert set(slopes) == {"brief", "detailed"}
    assert min(slopes.values()) > 0.05
