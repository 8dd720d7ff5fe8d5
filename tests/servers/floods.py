"""A server of bodies that nobody should take in whole: endless, bombs, crowds of choices, deep nests; and redirects.

It answers every request by the word in its path or prompt, counts connections, requests and bytes received, and
keeps what it was sent, so that a test can look for a key in it.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Self

from servers import replies

WORD = re.compile(rb"\[\[flood:([a-z-]+)\]\]")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNK = b'{"pad": "' + b"x" * 262_144
BOMB_MEGABYTES = 256


def plain() -> bytes:
    """An ordinary answer."""
    return json.dumps(replies.body("chat", "m", "Answer: A\nExplanation: It may rain.", "stop", None)).encode()


@cache
def bomb() -> bytes:
    """A gzip member of a quarter of a megabyte that holds a quarter of a gigabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    parts = [packer.compress(b'{"choices": [{"message": {"content": "')]
    parts += [packer.compress(b"x" * 1_000_000) for _ in range(BOMB_MEGABYTES)]
    return b"".join([*parts, packer.compress(b'"}}]}'), packer.flush()])


@cache
def crowd(count: int) -> bytes:
    """An answer with so many choices."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Answer: A"}}
    frame = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    return json.dumps({**frame, "choices": [choice] * count}).encode()


@cache
def nest(depth: int) -> bytes:
    """An answer in due form with a field that is nested so deep."""
    return plain()[:-1] + b', "deep": ' + b"[" * depth + b"]" * depth + b"}"


@dataclass
class FloodServer:
    """Use as a context manager. `target` is where redirects point; `word` is what happens without
    one in the prompt; several take turns."""

    word: str = "plain"
    target: str = ""
    received: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def everything(self) -> bytes:
        """All bytes that came in."""
        return b"".join(self.received)

    def __enter__(self) -> Self:
        self._bodies = {
            "plain": plain(), "choices": crowd(100_000), "few-choices": crowd(500), "nested": nest(100_000),
            "heavy": plain()[:-1] + b', "more": [' + b"[]," * 450_000 + b"[]]}",
            "values": b'{"choices": [' + b"{}," * 900_000 + b"{}]}",
        }  # fmt: skip
        self._bomb = bomb()
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while self._answer(connection, reader):  # type: ignore[arg-type]
                    pass
            except OSError:
                pass

    def _answer(self, connection: socket.socket, reader: Iterator[bytes]) -> bool:
        head, length = b"", 0
        for line in reader:
            head += line
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            if line == b"\r\n":
                break
        else:
            if head:
                self.received.append(head)
            return False
        payload = reader.read(length)  # type: ignore[attr-defined]
        self.received.append(head + payload)
        found = WORD.search(payload)
        words = self.word.split()
        word = found[1].decode() if found else words[len(self.received) % len(words)]
        if word == "redirect":
            note = f"HTTP/1.1 307 X\r\nlocation: {self.target}\r\ncontent-length: 0\r\n\r\n"
            connection.sendall(note.encode())
        elif word == "hang-up":
            return False
        elif word == "error":
            connection.sendall(HEAD.replace(b"200 OK", b"500 X") + b"content-length: 2\r\n\r\n{}")
        elif word == "endless":
            connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            while not self._closing.is_set():
                connection.sendall(b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK))
        elif word == "trickle":
            connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            while not self._closing.wait(0.05):
                connection.sendall(b"1\r\n \r\n")
        elif word == "bomb":
            length = len(self._bomb)
            connection.sendall(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % length + self._bomb)
        elif word == "zipped":
            data = gzip.compress(plain())
            connection.sendall(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        else:
            data = self._bodies[word]
            connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(data) + data)
        return True
