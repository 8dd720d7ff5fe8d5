"""What the service refuses: strangers, others' runs, foreign sites, paths, addresses, bodies that are too large."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from explaineval.errors import InputError
from explaineval.service.app import _bounded, is_loopback, listen
from explaineval.service.settings import Settings, read_settings, read_tokens
from servers.commands import run as run_command
from servers.service import ENVIRONMENT, RUN, SETTINGS, TOKENS, Reply, Service

ANN, BOB, BOSS = TOKENS["ann"], TOKENS["bob"], TOKENS["boss"]
UNKNOWN = "0123456789abcdef"
MODELS = [{"model": "simulated/faithful"}]


def code_of(reply: Reply) -> tuple[int, str]:
    """Return the status and the code of an error, after looking at its form."""
    document = reply.document
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message"}
    assert reply.headers["content-type"] == "application/json"
    return reply.status, document["error"]["code"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/runs"), ("POST", "/api/runs"), ("POST", "/api/plans"), ("GET", f"/api/runs/{UNKNOWN}"),
        ("GET", f"/api/runs/{UNKNOWN}/events"), ("POST", f"/api/runs/{UNKNOWN}/stop"), ("GET", "/api/cache"),
        ("PUT", "/api/files/x.jsonl"), ("GET", "/api/endpoints"), ("GET", "/api/session"), ("POST", "/api/comparisons"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("token", [None, "wrong-wrong-wrong-wrong", ANN + "x", "", "é" * 20])
def test_without_a_token_nothing_is_told(service: Service, method: str, path: str, token: str | None) -> None:
    """A missing or wrong token is 401, whatever is asked; it is not repeated."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
    reply = service.ask(method, path, headers=headers)

    assert code_of(reply) == (401, "unauthorized")
    assert not token or token.encode() not in reply.body


def status_before_the_body(service: Service, method: str, path: str, headers: dict[str, str]) -> int:
    """Return the status that is answered to a request whose body never comes."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    try:
        connection.putrequest(method, path)
        for name, value in {"Content-Length": "100", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_no_body_is_read_before_the_token_is_checked(service: Service) -> None:
    """Not on any route of the API that takes one; who has a token is told what is wrong with the body."""
    paths = service.ask("GET", "/openapi.json").document["paths"]
    routes = {
        (method.upper(), path.replace("{run}", UNKNOWN).replace("{name}", "x.jsonl"))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "requestBody" in operation and path != "/api/session"
    }

    assert len(routes) >= 5
    for method, path in sorted(routes):
        for token in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "explaineval_session=wrong"}):
            assert status_before_the_body(service, method, path, {"Content-Type": "application/json", **token}) == 401
    reply = service.ask("POST", "/api/runs", headers={"Content-Type": "application/json"}, body=b"{")
    assert code_of(reply) == (401, "unauthorized")
    assert service.ask("POST", "/api/runs", token=ANN, body=b"{").status == 422


@pytest.mark.parametrize("path", ["/new", "/new/preview", "/logout", f"/runs/{UNKNOWN}/stop"])
def test_no_form_is_read_before_the_session_is_checked(service: Service, path: str) -> None:
    """A cookie that is no session is none."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "explaineval_session=wrong"}

    assert status_before_the_body(service, "POST", path, headers) in (303, 401)


def test_a_token_in_the_address_is_none(service: Service) -> None:
    """Addresses end up in logs."""
    assert service.ask("GET", f"/api/runs?token={ANN}&access_token={ANN}").status == 401


def test_only_an_admin_sees_and_stops_the_runs_of_others(service: Service) -> None:
    """For everybody else there is no such run."""
    run = service.submit(RUN, ANN)
    paths = [("GET", ""), ("GET", "/events"), ("GET", "/metrics"), ("GET", "/report"), ("GET", "/files/run.json"),
             ("POST", "/stop"), ("POST", "/continue"), ("DELETE", "")]  # fmt: skip
    replies = [service.ask(method, f"/api/runs/{run}{path}", token=BOB) for method, path in paths]
    listed = {row["id"] for row in service.ask("GET", "/api/runs", token=BOB).document["runs"]}

    assert {code_of(reply) for reply in replies} == {(404, "not_found")}
    assert run not in listed
    assert service.ask("GET", f"/api/runs/{run}", token=BOSS).document["token"] == "ann"  # noqa: S105 - a name
    assert service.wait(run, ANN)["state"] == "finished"


def session_of(service: Service) -> tuple[str, str]:
    """Log in as ann; return the cookie and the secret against forgery."""
    reply = service.ask("POST", "/api/session", {"token": ANN})
    cookie = reply.headers["set-cookie"]
    assert reply.status == 200
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert ANN not in cookie
    assert "Secure" not in cookie
    encrypted = {"Host": "localhost", "Origin": "https://localhost"}
    assert "Secure" in service.ask("POST", "/api/session", {"token": ANN}, headers=encrypted).headers["set-cookie"]
    return cookie.partition(";")[0], reply.document["csrf"]


def test_a_browser_logs_in_once(service: Service) -> None:
    """The cookie stands for the token; with it, what changes something needs the secret and must come from here."""
    cookie, csrf = session_of(service)
    here, there = f"http://127.0.0.1:{service.port}", "http://evil.example"
    plain = {"Cookie": cookie}
    own = plain | {"X-CSRF-Token": csrf}

    def plan(headers: dict[str, str]) -> int:
        return service.ask("POST", "/api/plans", RUN, headers=headers).status

    assert service.ask("GET", "/api/session", headers=plain).document["token"] == "ann"  # noqa: S105 - a name
    assert plan(plain) == plan(plain | {"X-CSRF-Token": "0" * 64}) == 403
    assert plan(own | {"Origin": there}) == plan(own | {"Sec-Fetch-Site": "cross-site"}) == 403
    assert plan(own | {"Origin": "null"}) == 403
    assert plan(own | {"Origin": here, "Sec-Fetch-Site": "same-origin"}) == 200
    assert service.ask("DELETE", "/api/session", headers=own).status == 204
    assert service.ask("GET", "/api/session", headers=plain).status == 401
    assert code_of(service.ask("POST", "/api/session", {"token": "wrong-wrong-wrong"})) == (401, "unauthorized")


def test_other_host_names_are_refused(service: Service) -> None:
    """A name that leads here by somebody else's DNS gets nothing."""
    for host in ("evil.example", f"evil.example:{service.port}", "127.0.0.1.evil.example", "[::2]", ""):
        assert service.ask("GET", "/healthz", headers={"Host": host}).status == 400, host
    for host in ("localhost", f"LOCALHOST:{service.port}", "[::1]:80"):
        assert service.ask("GET", "/healthz", headers={"Host": host}).status == 200, host


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a file": ({"tasks": ["jsonl:/etc/passwd"]}, "names a file of the server"),
    "a file above": ({"tasks": ["jsonl:../../secrets"]}, "names a file of the server"),
    "a home": ({"tasks": ["jsonl:~root/x.jsonl"]}, "names a file of the server"),
    "a format's path": ({"tasks": ["esnli:/data/esnli.csv"]}, "names a file of the server"),
    "a URL": ({"tasks": ["http://evil.example/x"]}, "is a URL"),
    "an upload that is not there": ({"tasks": ["jsonl:nothing.jsonl"]}, "there is no upload"),
    "a task of no name": ({"tasks": ["sens"]}, "perhaps sense is meant"),
    "markup": ({"tasks": ["<script>alert(1)</script>"]}, "names a file"),
    "prompts": ({"prompts": "/etc"}, "prompts: the service does not take this key"),
    "a cache": ({"cache": "/var/x"}, "cache: the service does not take this key"),
    "a directory": ({"out": "/var/x"}, "out: the service does not take this key"),
    "endpoints": (
        {"endpoints": {"x": {"base_url": "http://10.0.0.1"}}},
        "endpoints: the service does not take this key",
    ),
    "a key": ({"api_key_env": "HOME"}, "api_key_env: the service does not take this key"),
    "a price": ({"price": [0, 0]}, "price: the service does not take this key"),
    "shots": ({"shots_from": "/etc/passwd"}, "names a file of the server"),
    "interventions": ({"interventions": {"file": "../x"}}, "interventions.file"),
    "a tagger": ({"interventions": {"tagger": "os"}}, "unknown key"),
    "a shard": ({"shard": "1/2"}, "the service does not take this key"),
    "Ray": ({"engine": "ray", "ray_address": "ray://10.0.0.1:10001"}, "the service does not take this key"),
    "a misspelt key": ({"limt": 3}, "limt: unknown key; did you mean limit?"),
    "no list": ({"tasks": "sense"}, "tasks: this must be a list"),
    "a name alone": ({"models": ["simulated/faithful"]}, "models.0: this must be an object"),
    "long parameters": ({"params": {"extra_body": {"x": "y" * 60_000}}}, "params: they may have 50,000 characters"),
    "no endpoint": ({"models": [{"model": "openai/gpt-4o"}]}, "say at which endpoint"),
    "a foreign endpoint": ({"models": [{"model": "openai/x", "endpoint": "http://10.0.0.1/v1"}]}, "is no endpoint"),
    "a foreign route": ({"models": [{"model": "deepseek/x", "endpoint": "dear"}]}, "may not be asked at"),
    "a simulated one elsewhere": ({"models": [{"model": "simulated/faithful", "endpoint": "dear"}]}, "is simulated"),
    "a file of laws": ({"models": [{"model": "simulated//etc/passwd#root"}]}, "is no simulated model of this service"),
    "a law beside": ({"models": [{"model": "simulated/serve.yaml#tokens"}]}, "is no simulated model of this service"),
    "a steering parameter": ({"params": {"api_base": "http://10.0.0.1"}}, "api_base"),
    "a huge number": ({"samples": 10**9}, "samples"),
    "half a character": ({"models": [{"model": "simulated/\ud800"}]}, "."),
    "no number": ({"max_usd": float("inf")}, "max_usd"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_the_operator_may_say_is_refused(service: Service, name: str) -> None:
    """With a sentence, and without a path of the server."""
    changes, sentence = REFUSED[name]
    reply = service.ask("POST", "/api/plans", {"tasks": ["sense"], "models": MODELS, "limit": 2, **changes}, BOB)

    assert code_of(reply) == (422, "invalid")
    assert sentence in reply.document["error"]["message"]
    assert str(service.data) not in reply.document["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/run.json%00", "/.stderr",
     "/prompts", "/%2fetc%2fpasswd", "/service.sqlite"],
)  # fmt: skip
def test_no_path_reaches_the_disk(service: Service, path: str) -> None:
    """Neither as the name of a file nor of a run or an upload."""
    run = service.submit(RUN, BOB)
    service.wait(run, BOB)
    for where in (f"/api/runs/{run}/files{path}", f"/api/runs{path}", f"/api/files{path}"):
        for method in ("GET", "PUT", "DELETE"):
            reply = service.ask(method, where, b"{}" if method == "PUT" else None, BOB)
            assert reply.status in (404, 405, 422), (method, where)
            assert b"root:" not in reply.body


def test_bodies_are_bounded(service: Service) -> None:
    """With the length told, without, and deeply nested."""
    large = json.dumps({"tasks": ["x" * 200_000], "models": MODELS}).encode()
    assert code_of(service.ask("POST", "/api/plans", large, BOB)) == (413, "too_large")
    assert code_of(service.ask("PUT", "/api/files/large.jsonl", b"{" + b" " * 600_000, BOB)) == (413, "too_large")
    for body in (
        b"[" * 50_000,
        b'{"params":' * 9000 + b"1" + b"}" * 9000,
        b'{"seed": ' + b"9" * 9000 + b"}",
        b"\xff\xfe",
    ):
        reply = service.ask("POST", "/api/plans", body, BOB, {"Content-Type": "application/json"})
        assert reply.status in (400, 422), body[:20]
    assert code_of(chunked(service, b"x" * 200_000)) == (413, "too_large")


def test_a_stranger_makes_no_numbers_of_their_own(service: Service) -> None:
    """Methods and addresses that nobody knows are counted as one."""
    for name in ("EVIL1", "EVIL2"):
        assert service.ask(name, f"/{name}").status == 404
    numbers = service.ask("GET", "/metrics", token=BOB).body.decode()

    assert "EVIL" not in numbers
    assert 'explaineval_http_requests_total{method="(other)",route="(unknown)",status="404"} 2.0' in numbers


@pytest.mark.slow
def test_who_sends_slowly_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The service ends in due form while an upload is under way that never comes to its end."""
    slow = Service(tmp_path, SETTINGS, ENVIRONMENT)
    slow.start()
    with socket.create_connection(("127.0.0.1", slow.port)) as upload:
        head = f"PUT /api/files/a.jsonl HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ANN}\r\n"
        upload.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        while not list((slow.data / "uploads").iterdir()):
            time.sleep(0.02)

        assert slow.stop() == 0
    assert list((slow.data / "uploads").iterdir()) == []


def test_a_body_without_its_type_is_told_what_to_send(service: Service) -> None:
    """As `curl -d` sends it."""
    reply = service.ask("POST", "/api/plans", json.dumps(RUN).encode(), BOB, {"Content-Type": "text/plain"})

    assert code_of(reply) == (422, "invalid")
    assert "Content-Type: application/json" in reply.document["error"]["message"]


def test_a_byte_order_mark_is_taken(service: Service) -> None:
    """As files of Windows have it, and as the command line takes it."""
    row = b'{"id": "1", "fields": {"a": "b"}, "options": {"A": "x", "B": "y"}, "gold": "A"}\n'

    assert service.ask("PUT", "/api/files/marked.jsonl", b"\xef\xbb\xbf" + row, BOB).status == 201


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for one part of a body ends; a stream of events, whose body has come, does not."""
    monkeypatch.setattr("explaineval.service.app.BLOCK_SECONDS", 0.01)

    async def receive_from(messages: list[Message]) -> list[Message]:
        async def receive() -> Message:
            if messages:
                return messages.pop(0)
            await asyncio.sleep(0.1)
            return {"type": "http.disconnect"}

        bounded = _bounded(receive, 100)
        return [await bounded(), await bounded()]

    with pytest.raises(HTTPException) as caught:
        asyncio.run(receive_from([{"type": "http.request", "body": b"{", "more_body": True}]))
    assert caught.value.status_code == 408
    whole: Message = {"type": "http.request", "body": b"{}", "more_body": False}
    assert asyncio.run(receive_from([whole])) == [whole, {"type": "http.disconnect"}]


def chunked(service: Service, body: bytes) -> Reply:
    """Send a body in chunks, without its length."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    headers = {"Authorization": f"Bearer {BOB}", "Content-Type": "application/json"}
    connection.request("POST", "/api/plans", iter([body[:100], body[100:]]), headers, encode_chunked=True)
    answer = connection.getresponse()
    reply = Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return reply


UPLOADS = {
    "no JSON": (b"hello\n", "expected one JSON object"),
    "a broken line": (b'{"id": "1"\n', "1: not valid JSON"),
    "an unknown key": (
        b'{"id": "1", "fields": {"a": "b"}, "options": {"A": "x", "B": "y"}, "evil": 1}\n',
        "unknown key",
    ),
    "an id twice": (2 * b'{"id": "1", "fields": {"a": "b"}, "options": {"A": "x", "B": "y"}}\n', "stands twice"),
    "an intervention without words": (b'{"example_id": "1", "kind": "mine"}\n', "'inserted' is missing"),
    "nothing": (b"", "is empty"),
    "too many rows": (
        3000 * b'{"example_id": "1", "kind": "mine", "inserted": "x", "field": "a", "offset": 0}\n',
        "2,000",
    ),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_uploads_are_checked_like_files(service: Service, name: str) -> None:
    """The line is named by the upload's own name; nothing is kept of a refused one."""
    content, sentence = UPLOADS[name]
    reply = service.ask("PUT", "/api/files/bad.jsonl", content, BOB)

    assert code_of(reply) == (422, "invalid")
    assert sentence in reply.document["error"]["message"]
    assert "bad.jsonl" in reply.document["error"]["message"]
    assert str(service.data) not in reply.document["error"]["message"]
    assert "bad.jsonl" not in {file["name"] for file in service.ask("GET", "/api/files", token=BOB).document["files"]}


def test_every_answer_has_the_headers(service: Service) -> None:
    """Also errors, and those before anything is read."""
    replies = [service.ask("GET", "/healthz"), service.ask("GET", "/nothing"), service.ask("PATCH", "/api/runs"),
               service.ask("GET", "/healthz", headers={"Host": "x"})]  # fmt: skip

    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert code_of(replies[1]) == (404, "not_found")
    assert code_of(replies[2]) == (405, "method_not_allowed")
    assert replies[2].headers["allow"] == "GET, POST"


def test_nothing_secret_is_printed(service: Service) -> None:
    """After all of this no token stands in what the service printed or wrote."""
    texts = [service.log(), *(path.read_text(errors="replace") for path in (service.data / "logs").iterdir())]
    assert [name for name, token in TOKENS.items() if any(token in text for text in texts)] == []
    assert [
        name for name, token in TOKENS.items() if token.encode() in (service.data / "service.sqlite").read_bytes()
    ] == []


def test_other_machines_need_tokens() -> None:
    """Without tokens it listens on this machine alone."""
    with pytest.raises(InputError, match="no tokens are configured"):
        listen("0.0.0.0", 0, {})  # noqa: S104 - refused
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="nothing can listen"):
        listen("127.0.0.1", taken.getsockname()[1], {})

    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")] == [  # noqa: S104
        True, True, True, False, False
    ]  # fmt: skip


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--config", "missing.yaml"), "missing.yaml: no such file of settings; check the path."),
        (("--host", "0.0.0.0"), "no tokens are configured"),  # noqa: S104 - refused
        (("--data", "/proc/nothing"), "the data directory /proc/nothing cannot be written"),
    ],
)
def test_the_command_ends_with_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """And exit code 2, before it listens."""
    done = run_command("serve", "--port", "0", *arguments, cwd=tmp_path)

    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert sentence in done.stderr


BAD_SETTINGS = {
    "token: {}\n": "serve.yaml:1: unknown key 'token'; did you mean tokens?",
    "\ntokens: {ann: {max_usd: 1}}\n": "serve.yaml:2: tokens.ann: give either token_env",
    "tokens:\n  ann: {token_env: T, limit: 3}\n": "serve.yaml:2: tokens.ann.limit: unknown key",
    "endpoints:\n  lab: {api_key_env: KEY}\n": "needs models",
    "endpoints:\n  lab: {base_url: 'ftp://x'}\n": "serve.yaml:2: endpoints.lab.base_url",
    "tasks: {mine: 'jsonl:missing.jsonl'}\n": "missing.jsonl does not exist",
    "tasks: {sense: 'jsonl:x'}\n": "bundled task",
    "limits: {workers: 0}\n": "limits.workers",
}


@pytest.mark.parametrize("text", BAD_SETTINGS)
def test_wrong_settings_are_told_with_their_line(tmp_path: Path, text: str) -> None:
    """One sentence that names the line and the setting."""
    path = tmp_path / "serve.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_settings(path)

    assert BAD_SETTINGS[text] in str(caught.value)


def test_tokens_are_read_from_safe_places(tmp_path: Path) -> None:
    """From a variable or from a file that nobody else reads; long enough, and each another."""
    secret = tmp_path / "token"
    secret.write_text("file-" + 20 * "f" + "\n", encoding="utf-8")
    settings = Settings.model_validate({"tokens": {"a": {"token_file": secret}, "b": {"token_env": "B"}}})
    for mode, environment, sentence in (
        (0o644, {"B": "b" * 20}, "others may read"),
        (0o600, {}, "is not set"),
        (0o600, {"B": "short"}, "16 to 512"),
        (0o600, {"B": "file-" + 20 * "f"}, "are the same"),
    ):
        secret.chmod(mode)
        with pytest.raises(InputError, match=sentence):
            read_tokens(settings, environment)
    assert len(read_tokens(settings, {"B": "b" * 20})) == 2
