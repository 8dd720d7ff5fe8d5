"""Answers to store, and rows that somebody else wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explaineval.cache import Store, open_store
from explaineval.records import Completion, Message, Request, TokenAlternatives


@pytest.fixture
def make_request() -> Callable[..., Request]:
    """Distinct requests by number."""

    def make(number: int = 0, *, endpoint: str | None = "lab", model: str = "openai/smol") -> Request:
        turns = (Message(role="user", content=f"Question {number} — ü"),)
        return Request(endpoint=endpoint, model=model, style="chat", messages=turns, max_tokens=9)

    return make


@pytest.fixture
def make_completion() -> Callable[..., Completion]:
    """Completions by number, with everything that can be there."""

    def make(number: int = 0) -> Completion:
        top = ((" A", -0.25), ("B", None))
        return Completion(
            text=f"Answer: A\nExplanation: because of {number} “ü”",
            finish_reason="stop",
            logprobs=(TokenAlternatives.model_validate({"offset": 8, "token": " A", "top": top}),),
            usage={
                "prompt_tokens": 10,
                "completion_tokens": number,
                "details": {"cached": None},
                "free": True,
            },
            model="smol-2026",
            created=1_700_000_000,
        )

    return make


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the store of a test lives."""
    return tmp_path / "cache"


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """An open, empty store."""
    with open_store(directory) as opened:
        yield opened


@pytest.fixture
def plant(directory: Path) -> Callable[..., None]:
    """Write a row, or change one, behind the store's back."""

    def write(statement: str, *arguments: object) -> None:
        connection = sqlite3.connect(directory / "cache.db")
        with connection:
            connection.execute(statement, arguments)
        connection.close()

    return write
