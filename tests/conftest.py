"""For all tests: no socket beyond loopback, no key and no setting from outside, no deadline for hypothesis."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from makers.command_line import Call, make_call
from servers import guards

FOREIGN = re.compile(
    r"EXPLAINEVAL_|(OPENAI|ANTHROPIC|AZURE|GEMINI|GOOGLE|MISTRAL|COHERE|AWS|HF|LITELLM)_"
    r"|.*_API_(KEY|BASE|TOKEN)$|.*_BASE_URL$|(ALL|HTTP|HTTPS)_PROXY$|COLUMNS$",
    re.IGNORECASE,
)
"""Environment variables that could change what a test does, or be spent by it."""

collect_ignore_glob = ["*conftest.py", "servers/*", "makers/*", "plugin_example/*"]
"""They hold no doctests, and several files of one name would clash."""

SLOW = (
    "service", "browser", "endtoend", "client", "pinned", "upgrade", "validation", "cli", "recipes", "execution",
    "parsing",
)  # fmt: skip
"""Directories with files that take long: they begin first, so that no process waits for the other at the end."""

guards.install()
# new draws at every run at home, so that they find what is new; the same ones on CI, so that it never flickers
settings.register_profile("short", deadline=None, derandomize=bool(os.environ.get("CI")), max_examples=25)
settings.register_profile("all", settings.get_profile("short"), max_examples=100)


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The environment without keys and settings, and with the switch that guards child processes."""
    before = dict(os.environ)
    for name in before:
        if FOREIGN.match(name):
            del os.environ[name]
    switch = guards.write_switch(tmp_path_factory.mktemp("guard"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (switch, before.get("PYTHONPATH"))))
    os.environ[guards.NOTES_TO] = str(tmp_path_factory.mktemp("guard-notes") / "notes.txt")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw many inputs for a property where all tests run, few where the slow ones are left out."""
    settings.load_profile("short" if config.getoption("markexpr") == "not slow" else "all")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect the tests without the garbage collector, which took a third of that time.

    What they are made of stays until the end, so later collections leave it out.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that tried to leave this machine even where the code under test swallowed the error."""
    guards.violations.clear()
    notes = Path(os.environ.get(guards.NOTES_TO, os.devnull))
    try:
        result = yield
    finally:
        tried = [*guards.violations, *(notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else ())]
        guards.violations.clear()
        if tried:
            notes.write_text("", encoding="utf-8")
    if tried and "leaves_loopback" not in item.fixturenames:
        pytest.fail(f"tried to leave this machine: {'; '.join(tried)}")
    return result


@pytest.fixture
def leaves_loopback() -> None:
    """Marks the tests of the guard itself, which try to leave on purpose."""


@pytest.fixture
def call(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Run the command line in this process, in an empty directory: exit code, standard output, standard error.

    A module may say as COMMAND with which command every call begins, and as COLUMNS how wide the screen is (80).
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(getattr(request.module, "COLUMNS", 80)))
    return make_call(capsys, *filter(None, [getattr(request.module, "COMMAND", None)]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write halves of surrogate pairs in captured texts as escapes, since no test process can send them to another."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest directories first; of tests that are `sampled`, mark all but a few cases as slow."""
    items.sort(key=lambda item: SLOW.index(item.path.parent.name) if item.path.parent.name in SLOW else len(SLOW))
    families: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in families.values():
        mark = cases[0].get_closest_marker("sampled")
        assert mark is not None
        kept = {number * len(cases) // mark.args[0] for number in range(mark.args[0])}
        for number, item in enumerate(cases):
            if number not in kept:
                item.add_marker(pytest.mark.slow)
