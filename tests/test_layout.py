"""The layout of the package: no circle of imports, a class name has one meaning, each package has its layer."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "explaineval"


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Which module imports which; imports for types alone do not count."""
    return grimp.build_graph("explaineval", exclude_type_checking_imports=True)


def test_no_modules_import_each_other(graph: grimp.ImportGraph) -> None:
    """Taking away modules that import nothing but what is taken away already leaves none."""
    left = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while free := {module for module, imported in left.items() if not imported & left.keys()}:
        left = {module: imported for module, imported in left.items() if module not in free}

    assert left == {}


def test_a_class_name_has_one_meaning() -> None:
    """No two modules define classes of the same name, private ones included."""
    homes: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))

    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_every_package_has_its_layer() -> None:
    """A package that import-linter does not know could be imported from anywhere."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    listed = {name.strip() for line in contract["layers"] for name in line.split("|")}
    data = {"tasks", "_prompts"}
    found = {
        f"explaineval.{path.stem}" for path in SOURCE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.name not in data
    }  # fmt: skip

    assert found - listed == {"explaineval.__init__", "explaineval.__main__", "explaineval._version"}
