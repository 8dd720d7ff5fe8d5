"""One service for all tests that do not end it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.service import ENVIRONMENT, SETTINGS, Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, started; it ends with the tests."""
    started = Service(tmp_path_factory.mktemp("service"), SETTINGS, ENVIRONMENT)
    started.start()
    yield started
    assert started.stop() == 0
