"""Measure how faithful the explanations of language models are, through their APIs (phi-CCT and CCT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explaineval._version import __version__

__all__ = ["Run", "__version__", "load"]

if TYPE_CHECKING:
    from explaineval.reporting.frames import Run, load


def __getattr__(name: str) -> Any:
    """Import `load` and `Run`, which need pandas, when they are first used."""
    if name in ("load", "Run"):
        from explaineval.reporting import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'explaineval' has no attribute {name!r}")
