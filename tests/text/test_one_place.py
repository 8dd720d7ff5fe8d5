"""Numbers become text in one package: no other module formats decimals, shares or dollars."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "explaineval"
WORDS = SOURCE / "text.py"
DECIMALS = re.compile(r"\.\d*[a-zA-Z%]?$|\.\{|[eEfF%]$")
"""A format that rounds: `.2f`, `.3g`, `%`. A bare `g` writes a setting as it was given."""

OTHERWISE = {
    ("scoring/comparisons/runs.py", ".6g"): "a part of a signature, which nobody reads",
}
"""Formats that make no text for people, and why."""


def _formats(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the format of every number that is rounded, and of every amount after a dollar sign."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            before = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    before = str(part.value)
                    continue
                assert isinstance(part, ast.FormattedValue)
                spec = "" if part.format_spec is None else ast.unparse(part.format_spec)[2:-1]
                if DECIMALS.search(spec) or before.endswith("$"):
                    yield part.lineno, spec
                before = ""
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if name == "format" and isinstance(node.func, ast.Name) and any(map(DECIMALS.search, texts)):
                yield node.lineno, texts[0]
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if name in ("format", "format_map") and isinstance(owner, ast.Constant):
                yield from ((node.lineno, spec) for spec in re.findall(r"\{\w*:([^}]*)\}", str(owner.value))
                            if DECIMALS.search(spec))  # fmt: skip
        elif (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mod)
            and isinstance(node.left, ast.Constant)
            and re.search(r"%[-+ 0-9]*\.\d*[efgEFG]", str(node.left.value))
        ):
            yield node.lineno, str(node.left.value)


def _module(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize(
    "text",
    [
        'f"{x:.2f}"', 'f"{x:+.1f}"', 'f"{x:.0%}"', 'f"${x}"', 'f"{x:,.{digits}f}"', 'format(x, ".3g")', '"%.2f" % x',
        '"{x:.2f}".format(x=1)',
    ],
)  # fmt: skip
def test_a_rounded_number_is_seen(text: str) -> None:
    assert len(list(_formats(ast.parse(text)))) == 1


@pytest.mark.parametrize(
    "text", ['f"{x:,}"', 'f"{x:<12}"', 'f"{x!r}"', 'f"{day:%Y-%m}"[:0]', 'f"{code:04x}"', '"%s" % x']
)
def test_other_formats_are_let_be(text: str) -> None:
    assert not list(_formats(ast.parse(text)))


def test_numbers_become_text_in_one_module() -> None:
    found = [
        f"{_module(path)}:{line}: {spec}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path != WORDS
        for line, spec in _formats(ast.parse(path.read_text(encoding="utf-8")))
        if (_module(path), spec) not in OTHERWISE
    ]

    assert found == []
