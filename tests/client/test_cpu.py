"""The embedded model's threads: physical cores less what is busy, within the limits of the process, at least one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.client.endpoints import llamacpp
from explaineval.client.endpoints.llamacpp import count_cores, free_threads, read_quota, threads_for
from explaineval.errors import EndpointError


@pytest.mark.parametrize(
    ("cores", "allowed", "load", "quota", "threads"),
    [
        (2, 2, 0.1, None, 2),
        (2, 2, 1.0, None, 1),
        (2, 2, 11.9, None, 1),
        (8, 8, 0.4, None, 8),
        (8, 8, 3.0, None, 5),
        (8, 8, 3.0, 2.0, 2),
        (64, 2, 32.0, None, 1),
        (64, 64, 30.0, 1.5, 1),
        (64, 64, 0.0, 0.5, 1),
        (8, 4, 2.0, None, 3),
        (1, 1, 0.0, None, 1),
        (4, 8, 0.0, None, 4),
    ],
)
def test_threads_are_the_free_cores(cores: int, allowed: int, load: float, quota: float | None, threads: int) -> None:
    """Idle, busy, within an affinity, within a quota: never more than what is free, never none."""
    assert threads == threads_for(cores=cores, allowed=allowed, load=load, quota=quota)


@given(
    cores=st.integers(0, 300),
    allowed=st.integers(0, 300),
    load=st.floats(0, 1e4),
    quota=st.none() | st.floats(0, 300),
)
def test_there_is_always_a_thread_and_never_one_too_many(
    cores: int, allowed: int, load: float, quota: float | None
) -> None:
    """At least one; beyond that no more than the cores, those allowed, and the quota."""
    threads = threads_for(cores=cores, allowed=allowed, load=load, quota=quota)

    assert 1 <= threads <= max(1, min(cores, allowed))
    assert quota is None or threads <= max(1, quota)


def test_processors_of_one_core_count_once(tmp_path: Path) -> None:
    """Four logical processors on two cores are two; those of which nothing is known count each."""
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        path = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(siblings + "\n")

    assert count_cores(range(4), tmp_path) == 2
    assert count_cores({1, 3}, tmp_path) == 1
    assert count_cores(range(4, 7), tmp_path) == 3


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/a\n4:cpu,cpuacct:/a",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/../..", "sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_quota_is_the_smallest_of_the_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    """Both versions of control groups, a limit further up, no limit, and files that are absent or odd."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    assert quota == read_quota(tmp_path)


def test_a_machine_that_does_not_tell_its_load_is_taken_for_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the load is unknown the cores alone count."""

    def unknown() -> tuple[float, float, float]:
        raise OSError("not known")

    monkeypatch.setattr(llamacpp.os, "getloadavg", unknown)
    monkeypatch.setattr(llamacpp, "count_cores", lambda _: 3)
    monkeypatch.setattr(llamacpp, "read_quota", lambda: None)

    assert free_threads() == 3


def test_the_server_is_started_with_the_free_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The number that was found is what the child is told."""
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> subprocess.Popen[bytes]:
        started.append(command)
        raise EndpointError("enough seen")

    monkeypatch.setattr(llamacpp.util, "find_spec", lambda name: name)
    monkeypatch.setattr(llamacpp.subprocess, "Popen", start)
    monkeypatch.setattr(llamacpp, "free_threads", lambda: 5)

    with pytest.raises(EndpointError, match="enough seen"):
        llamacpp.EmbeddedServer(tmp_path / "weights.gguf", slots=3)

    assert [command[-3:] for command in started] == [[str(tmp_path / "weights.gguf"), "3", "5"]]
