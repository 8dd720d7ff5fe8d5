"""Report pages: written as the command does, and open in a browser, with what they did there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page

from explaineval.cli.app import main

DESKTOP, PHONE = (1280, 900), (390, 844)
"""Sizes of windows in CSS pixels."""


@dataclass
class Opened:
    """An open page, and what it did: errors and warnings, and requests."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def assert_quiet(self) -> None:
        """No error or warning, no request but for files, nothing executed, nothing that the policy had to stop."""
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("file:///")] == []
        assert self.page.evaluate("[window.executed, window.violated]") == [[], []]


Open = Callable[..., Opened]


def make_report(*directories: Path, out: Path) -> Path:
    """Write the page of run directories, as the command does."""
    with pytest.raises(SystemExit) as caught:
        main(["report", *map(str, directories), "--out", str(out)])
    assert not caught.value.code
    return out
