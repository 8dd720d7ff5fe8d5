"""Network file systems are told from the table of mounts."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from explaineval.cache import find_network_type, locks, open_store
from explaineval.errors import InputError

MOUNTS = r"""
/dev/vda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
//nas/share /mnt/My\040Share cifs rw 0 0
me@host:/ /mnt/far fuse.sshfs rw 0 0
/dev/sdc1 /mnt/stick fuse.ntfs-3g rw 0 0
server:/data /data nfs rw 0 0
tmpfs /data tmpfs rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/", None),
        ("/srv/cache", None),
        ("/home", "nfs4"),
        ("/home/me/cache", "nfs4"),
        ("/homely/cache", None),
        ("/home/local/cache", None),
        ("/mnt/My Share/cache", "cifs"),
        ("/mnt/far/cache", "fuse.sshfs"),
        ("/mnt/stick", None),
        ("/data/cache", None),
    ],
)
def test_the_longest_mount_point_decides(directory: str, expected: str | None) -> None:
    """Local mounts below remote ones are local; a later mount covers an earlier one."""
    assert expected == find_network_type(MOUNTS, PurePosixPath(directory))


def test_nothing_is_said_without_a_table() -> None:
    """An empty table tells nothing."""
    assert find_network_type("", PurePosixPath("/home")) is None


def test_a_store_on_a_network_file_system_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before anything is made; the sentence says where to go, and how the answers come along."""
    monkeypatch.setattr(locks, "find_network_type", lambda *_: "nfs4")

    with pytest.raises(InputError, match=r"network file system \(nfs4\).*choose a local.*cache export.*cache import"):
        open_store(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_store_on_a_network_file_system_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the answers in it can be moved."""
    open_store(tmp_path / "cache").close()
    monkeypatch.setattr(locks, "find_network_type", lambda *_: "nfs4")
    with open_store(tmp_path / "cache", readonly=True) as store:
        warnings = store.warnings

    assert len(warnings) == 1
    assert "network file system (nfs4)" in warnings[0]
