"""Slow and greedy clients: what they send late ends, and what they hold leaves room for others."""

from __future__ import annotations

import io
import json
import logging
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from explaineval.service.monitoring import REPEAT_SECONDS, WRITTEN, CountedLines
from explaineval.service.processes.sharing import Shares, TooManyError
from makers.waiting import wait_for
from servers.service import ENVIRONMENT, RUN, SETTINGS, TOKENS, Service

ANN, BOB = TOKENS["ann"], TOKENS["bob"]
HEAD = b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\n"
LIMITS = {"connections": 40, "connections_per_address": 20, "followers_per_token": 3, "requests_per_token": 6}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that has room for 20 connections of an address, and waits a second for a head."""
    endpoints = {"slow": {"base_url": "http://127.0.0.1:9/v1", "rpm": 0.001, "price": [0, 0]}}
    limits = SETTINGS["limits"] | LIMITS | {"header_seconds": 1.0, "idle_seconds": 1}
    settings = SETTINGS | {"endpoints": endpoints, "limits": limits}
    started = Service(tmp_path_factory.mktemp("small"), settings, ENVIRONMENT)
    started.start()
    yield started
    assert started.stop() == 0


OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test opened."""
    yield
    while OPEN:
        OPEN.pop().close()


def connect(service: Service, text: bytes = b"") -> socket.socket:
    """Open a connection and send a text."""
    found = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    OPEN.append(found)
    with suppress(ConnectionError):
        found.sendall(text)
    return found


def read_all(connection: socket.socket) -> bytes:
    """Read until the server ends the connection; it may reset it."""
    found = b""
    try:
        while block := connection.recv(1 << 16):
            found += block
    except ConnectionError:
        pass
    return found


@pytest.mark.slow
def test_a_head_that_does_not_arrive_is_refused(small: Service) -> None:
    """Also where a byte comes now and then; whoever sent nothing is told nothing."""
    silent, half, dripping = connect(small), connect(small, HEAD), connect(small, HEAD + b"X-A: ")
    dripping.settimeout(0.2)
    got = b""
    for _ in range(100):
        try:
            dripping.sendall(b"a")
            block = dripping.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        got += block
        if not block:
            break

    assert read_all(silent) == b""
    assert got.startswith(b"HTTP/1.1 408 ")
    head, _, body = read_all(half).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "too_slow"


def test_bytes_after_an_answer_do_not_keep_a_connection_open(small: Service) -> None:
    """The rest of a body that nobody reads has as long as a head."""
    connection = connect(small, HEAD.replace(b"GET /api/runs", b"GET /healthz") + b"Content-Length: 9000\r\n\r\n")
    connection.settimeout(0.2)
    closed = False
    for _ in range(150):
        try:
            connection.sendall(b"a")
            closed = not connection.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            closed = True
        if closed:
            break

    assert closed


def test_what_is_no_http_gets_an_error_of_the_service(small: Service) -> None:
    """The body is the same document as of every error."""
    head, _, body = read_all(connect(small, b"HELLO\r\n\r\n")).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    "text",
    [b"", HEAD, HEAD.replace(b"GET", b"POST") + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"],
    ids=["silent", "half a head", "half a body"],
)
def test_connections_that_ask_nothing_give_way(small: Service, text: bytes) -> None:
    """Three times as many as have room are opened; questions of others are answered meanwhile."""
    for _ in range(60):
        connect(small, text)
    statuses = [small.ask("GET", path, token=BOB).status for path in ("/healthz", "/readyz", "/api/runs")]

    assert statuses == [200, 200, 200]


@pytest.mark.slow
def test_followers_of_one_token_leave_room_for_others(small: Service) -> None:
    """Three may follow; the fourth is refused, as are too many requests, and another token follows."""
    run = small.submit(RUN | {"models": [{"model": "openai/m", "endpoint": "slow"}]}, ANN)
    other = small.submit(RUN | {"models": [{"model": "openai/m", "endpoint": "slow"}]}, BOB)

    def follow(token: str, run: str) -> tuple[socket.socket, bytes]:
        text = f"GET /api/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        connection = connect(small, text.encode())
        return connection, connection.recv(12)

    greedy = [follow(ANN, run) for _ in range(5)]
    connection, line = follow(BOB, other)
    statuses = [small.ask("GET", "/healthz").status, small.ask("GET", "/api/runs", token=BOB).status]

    assert [line for _, line in greedy] == [b"HTTP/1.1 200"] * 3 + [b"HTTP/1.1 429"] * 2
    assert (line, statuses) == (b"HTTP/1.1 200", [200, 200])

    for held, _ in (*greedy, (connection, b"")):
        held.close()
    wait_for(lambda: b"explaineval_followers 0.0" in small.ask("GET", "/metrics", token=BOB).body)
    for name, token in ((run, ANN), (other, BOB)):
        small.ask("POST", f"/api/runs/{name}/stop", token=token)
        small.wait(name, token)


def test_one_holder_never_has_more_than_is_free() -> None:
    """The first takes half, the second half of what is left, and each has room for the next."""
    shares = Shares(16, 100, "seats")
    for name, places in (("ann", 8), ("bob", 4), ("eve", 2), ("kim", 1)):
        while shares.has_room(name):
            shares.take(name)

        assert shares.held[name] == places
    shares.give_back("ann")
    with shares.place("kim"):
        assert shares.total == 15
    with pytest.raises(TooManyError, match="too many seats of kim"), shares.place("kim"), shares.place("kim"):
        pass


def test_a_line_that_repeats_itself_is_counted() -> None:
    """Lines that differ in numbers or in the run alone are alike; the count is said once a minute and at the end."""
    seconds = [0.0]
    stream = io.StringIO()
    handler = CountedLines(stream, lambda: seconds[0])
    logger = logging.Logger("test")
    logger.addHandler(handler)

    def log(count: int, **fields: object) -> None:
        for number in range(count):
            logger.warning("request", extra={"fields": {"run": str(number), "seconds": number, **fields}})

    log(WRITTEN + 7, status=401)
    log(3, status=200)
    logger.error("boom\nboom")
    seconds[0] = REPEAT_SECONDS
    log(WRITTEN + 1, status=401)
    handler.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    counts = [(line["of"], line["status"], line["count"]) for line in lines if line["event"] == "repeated"]

    assert counts == [("request", 401, 7), ("request", 401, 1)]
    assert sum(line["event"] == "request" for line in lines) == 2 * WRITTEN + 3
    assert [line["event"] for line in lines if line["level"] == "error"] == ["boom\nboom"]


def test_kinds_of_lines_that_strangers_make_up_are_bounded() -> None:
    """Texts that differ in each line do not fill the memory, nor the log."""
    stream = io.StringIO()
    handler = CountedLines(stream, lambda: 0.0)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for number in range(5000):
        logger.warning("text %s", number, extra={"fields": {"name": f"made up {number}"}})
    handler.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert len(lines) < 600
    assert (lines[-1]["event"], lines[-1]["of"]) == ("repeated", "other lines")
    assert sum(line.get("count", 1) for line in lines) == 5000


def test_all_that_the_service_prints_is_json(small: Service) -> None:
    """Also what its server says of requests that it refuses."""
    assert read_all(connect(small, b"\x00\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    lines = [json.loads(line) for line in small.log().splitlines()]

    assert {line["event"] for line in lines} >= {"start", "request"}
    assert all(isinstance(line, dict) for line in lines)
    start = next(line for line in lines if line["event"] == "start")
    assert start["url"] == f"http://127.0.0.1:{small.port}/"


@pytest.mark.slow
def test_what_a_service_writes_is_for_its_user_alone(small: Service, tmp_path: Path) -> None:
    """Whatever the umask: the folder, the table and its companions, uploads, runs, exports, the cache and logs."""
    small.wait(run := small.submit(RUN, BOB), BOB)
    task = b'{"id": "1", "fields": {"a": "The dog barks."}, "options": {"A": "x", "B": "y"}, "gold": "A"}\n'
    assert small.ask("PUT", "/api/files/private.jsonl", task, BOB).status == 201
    assert small.ask("GET", f"/api/runs/{run}/report", token=BOB).status == 200
    assert small.ask("GET", f"/api/runs/{run}/files/bundle.zip", token=BOB).status == 200
    seen = {}
    for path in (small.data, *small.data.rglob("*")):
        try:
            found = path.lstat().st_mode
        except FileNotFoundError:
            continue
        seen[path.relative_to(small.data).as_posix()] = (stat.S_ISDIR(found), stat.S_IMODE(found))

    assert len(seen) > 15
    assert {name: oct(mode) for name, (folder, mode) in seen.items() if mode != (0o700 if folder else 0o600)} == {}


@pytest.mark.slow
def test_a_data_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """As does every file in it that is there already."""
    service = Service(tmp_path / "service", {"embedded": False})
    (service.data / "logs").mkdir(parents=True)
    service.data.chmod(0o750)
    kept = service.data / "logs" / "old.txt"
    kept.write_text("old")
    kept.chmod(0o640)
    service.start()
    service.stop()

    assert [stat.S_IMODE(path.stat().st_mode) for path in (service.data, kept)] == [0o750, 0o640]
    assert stat.S_IMODE((service.data / "cache").stat().st_mode) == 0o700
