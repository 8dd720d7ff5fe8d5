"""One of a thing is not told in the plural, whatever is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explaineval.cli.app import main

ONE = re.compile(r"(?<![\d.,:/-])\b1 (?:more |of |stored |distinct |scored |shared )?([a-z]+s)\b")
VERBS = {"is", "was", "has", "does", "this", "its", "as", "goes", "differs", "comes", "belongs", "words", "minus"}
"""Words after a one that are no plurals; `1 words` is a mean of lengths."""
COMMANDS = (
    "run {model} --limit 1 --cache c --out r --table",
    "run {model} --limit 1 --cache c --out r --offline",
    "run {model} --limit 1 --verbosity brief --cache c --out o --offline",
    "run {model} --limit 1 --kind random_word --per-example 1 --cache c --out two",
    "run {model} --limit 2 --kind random_word --per-example 1 --cache c --out two --offline",
    "plan {model} --limit 1 --cache c",
    "plan {model} --limit 1 --cache c --half-width 0.2",
    "plan {model} --limit 1 --cache empty",
    "notes r",
    "explain phi_cct",
    "show r --example sense-001",
    "show r --list",
    "show r --example sense-001 --answers",
    "score r --table",
    "score r --mention word --mention lemma",
    "watch r --once",
    "report r --out r.html",
    "export r --out r.zip",
    "reproduce r.zip",
    "export r --format csv --out r.csv",
    "export r --format card --out r.md",
    "judge sheet two --n 1 --out sheet.csv",
    "cache stats --cache c",
    "cache explain r",
    "cache explain o",
    "cache verify --cache c",
    "cache export --cache c --run r --out p.gz",
    "cache import p.gz --cache d",
    "cache prune --cache d --model simulated/faithful --yes 6",
    "interventions show --task sense --limit 1",
    "compare r two",
)


def test_one_of_a_thing_is_singular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command about one example, one model and one answer; what they print and the pages that they write."""
    monkeypatch.chdir(tmp_path)
    wrong, codes = [], {}
    for line in COMMANDS:
        words = line.format(model="--task sense --model simulated/faithful").split()
        with pytest.raises(SystemExit) as ended:
            main(words)
        codes[line] = ended.value.code
        said = capsys.readouterr()
        texts = [said.out, said.err]
        if "--out" in words and (page := Path(words[words.index("--out") + 1])).suffix in (".html", ".md"):
            texts.append(re.sub(r"<script.*?</script>|<svg.*?</svg>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL))
        for text in texts:
            flat = " ".join(text.split())
            wrong += [
                f"{line}: {flat[max(0, found.start() - 30) : found.end() + 20]}"
                for found in ONE.finditer(flat)
                if found[1] not in VERBS
            ]

    assert wrong == []
    assert {line for line, code in codes.items() if code == 1} == set()
    assert sum(code == 0 for code in codes.values()) >= len(COMMANDS) - 8, codes
