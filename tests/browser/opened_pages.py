"""A page that is open in a browser, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import Page

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
