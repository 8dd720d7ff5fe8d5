"""What is known of an endpoint, kept beside the answers: its name, and how it stands in a row and in a pack. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from explaineval.cache.disks import RefusedRowError
from explaineval.cache.keys import SCHEMA

PREFIX = "verdict:"
"""What the key of a verdict's row begins with, so that it is no answer's."""

MAX_NAME = 200


def verdict_name(endpoint: str | None, model: str) -> str:
    """The name under which the verdict on one (endpoint, model) is stored."""
    return hashlib.sha256(json.dumps([endpoint, model]).encode()).hexdigest()[:32]


def make_verdict(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """The row of a verdict."""
    return {"name": name, "verdict": document}


def read_verdict(name: str, row: object) -> dict[str, Any]:
    """The document about an endpoint in the row of that name.

    Raises:
        RefusedRowError: another shape, or the row of another name.
    """
    if not isinstance(row, dict) or row.get("name") != name or not isinstance(row.get("verdict"), dict):
        raise RefusedRowError("it is not the document of that name")
    return dict(row["verdict"])


def name_request(name: str) -> dict[str, Any]:
    """What stands for a verdict's name where answers have their request."""
    return {"schema": SCHEMA, "verdict": name}


def find_name(request: dict[str, Any]) -> str | None:
    """The name in what `name_request` made, None for anything else."""
    name = request.get("verdict")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return None
    return name if request == name_request(name) and type(request["schema"]) is int else None
