"""Property tests here have no deadline: the first example of a test pays for scipy's import."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("metrics", deadline=None)
settings.load_profile("metrics")
