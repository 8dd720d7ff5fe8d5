"""Faithfulness of model explanations, measured through an API (phi-CCT and CCT)."""

from __future__ import annotations

from explaineval._version import __version__

__all__ = [
    "Comparison",
    "Result",
    "Run",
    "__version__",
    "compare",
    "load",
    "merge",
    "plan",
    "run",
    "score",
    "score_trials",
]

TYPE_CHECKING = False  # typing takes as long to import as all else of a start until Ctrl-C can be handled
if TYPE_CHECKING:
    from typing import Any

    from explaineval.api import Comparison, Result, compare, merge, plan, run, score, score_trials
    from explaineval.reporting.results import Run, load

_MODULES = {"load": "explaineval.reporting.results", "Run": "explaineval.reporting.results"}
"""The modules of the names that are not in `explaineval.api`."""


def __getattr__(name: str) -> Any:
    """Import the functions of the Python API when they are first used, since pandas is slow to import."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(_MODULES.get(name, "explaineval.api")), name)
    raise AttributeError(f"module 'explaineval' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the functions of the Python API too, for completion in notebooks."""
    return sorted({*globals(), *__all__})
