"""Hand calls to workers on Ray, and take back what came of them, as it comes.

Ray runs the workers as actors: a call goes to the one with the fewest calls under way, in batches of a few
milliseconds, and one request that is always open at each worker brings its replies. That costs a third of the CPU time
of one actor call for each request, and a sixth of Ray's streaming generators. Ray itself repeats nothing: the calls
under way at a worker that is lost fail as attempts whose bill is unknown, the layers above ask them again, and another
worker is started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from itertools import count
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

from explaineval._version import __version__
from explaineval.client.worker import Hello, RequestSender, Setup, decode_reply, encode_call, join, split
from explaineval.config import ClientConfig, Endpoint
from explaineval.config.installation import install_extra
from explaineval.errors import EndpointError, ExplainevalError, InputError, TransientError
from explaineval.records import Completion, Request
from explaineval.secrets import SECRETS
from explaineval.text import agreeing, counted

WORKERS = 2
"""Workers, unless their number is given."""
GATHER = 0.003
"""Seconds in which further calls to a worker are gathered after the first."""
SILENCE = 30.0
"""Seconds in which a worker must answer a collection; after twice as long it is taken for lost."""
CONNECTING, STARTING, ENDING = 90.0, 180.0, 30.0
"""Seconds that Ray may take to start or to be reached, a worker to start, and Ray to end."""
MOST_LOSSES = 4
"""Workers that may be lost in a row, for each worker, before one answers anything."""
OBJECT_STORE = 80 * 2**20
"""Bytes of shared memory for Ray's objects, of which replies larger than 100 kB take some."""
TEMPORARY = "/tmp"  # noqa: S108 - the names of Ray's sockets must be short; the directory inside is made for this run alone

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's switch for one machine alone, under its historical name: all ports are on the loopback address."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


def check_engine(config: ClientConfig) -> None:
    """Check the engine before anything is sent.

    Raises:
        InputError: Ray is wanted and is not installed, batches are wanted besides, what is for Ray is given without, or
            a file alone chose a cluster on another machine.
    """
    if config.engine == "local":
        if config.ray_address is not None or config.workers is not None:
            raise InputError("--ray-address and --workers are for --engine ray: add it, or leave them out.")
        return
    if config.ray_address_from_file and not _is_local(config.ray_address or "auto"):
        raise InputError(
            f"the file would send the run's requests to the Ray cluster at {config.ray_address}, and a file alone may "
            f"not choose another machine for that. If you want it, add --ray-address {config.ray_address}."
        )
    if config.batch:
        raise InputError("batches are sent without workers: leave out --engine ray, or --batch.")
    if not config.offline and find_spec("ray") is None:
        raise InputError(f"--engine ray needs Ray, which is not installed: {install_extra('ray')}.")


def _is_local(address: str) -> bool:
    """Return whether the address of a Ray cluster is on this machine.

    >>> [_is_local(address) for address in ("auto", "127.0.0.1:6379", "[::1]:6379", "localhost:1", "10.0.0.1:6379")]
    [True, True, True, True, False]
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        return address == "auto" or host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(eq=False)
class _Link:
    """A worker as the run sees it: its actor, its calls under way by number, and the calls about to be handed over."""

    actor: Any
    hello: Hello
    pending: dict[int, tuple[asyncio.Future[Completion], str]] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)
    collecting: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return f"on {self.hello.host} (process {self.hello.pid})"


class RayWorkers:
    """The workers of one run, started at the first call.

    Args:
        endpoints: where each endpoint is reached, by its identity in requests.
        timeout: seconds that one attempt may take.
        workers: how many workers.
        address: the address of a Ray cluster, None to start Ray on this machine for the time of the run.
        report: shows a message to the user.
    """

    def __init__(
        self,
        endpoints: Mapping[str | None, Endpoint],
        timeout: float,
        workers: int = WORKERS,
        address: str | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.report = report
        self._setup = Setup.of(endpoints, timeout).model_dump_json().encode("utf-8")
        self._wanted, self._address = workers, address
        self._numbers = count(1)
        self._links: list[_Link] = []
        self._starting: asyncio.Task[None] | None = None
        self._replacing: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._losses = 0
        self._error: ExplainevalError | None = None
        self._directory: TemporaryDirectory[str] | None = None
        self._connected = self._closed = False
        self._thread = _Thread()
        SECRETS.learn(os.environ)  # what a worker sends may hold the keys of this machine too
        for endpoint in endpoints.values():
            SECRETS.add(os.environ.get(endpoint.api_key_env or ""))

    async def complete(self, transport: str, request: Request) -> Completion:
        """Have a worker send a request by the transport of this class, given as module:class.

        Raises:
            TransientError: the worker was lost while the call was under way. Else, as the transport raises it there.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)
        link = await self._least_loaded()
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completion] = loop.create_future()
        link.pending[number] = answer, _where(request)
        if not link.outbox:
            loop.call_later(GATHER, self._hand_over, link)
        link.outbox[number] = encode_call(number, transport, request)
        try:
            return await answer
        finally:
            link.pending.pop(number, None)
            link.outbox.pop(number, None)

    async def close(self) -> None:
        """End the workers, and Ray where it was started for them."""
        if self._closed:
            return
        self._closed = True
        tasks = [task for task in (self._starting, *self._replacing) if task is not None]
        tasks += [link.collecting for link in self._links if link.collecting is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError):  # the run has its answers; what is left of Ray ends with this process
            await self._thread.call(self._disconnect, ENDING)
        self._thread.end()
        if self._directory is not None:
            self._directory.cleanup()

    async def _start(self) -> None:
        """Connect, and start all workers. Raises InputError."""
        try:
            await self._thread.call(self._connect, CONNECTING)
        except TimeoutError:
            raise InputError(
                f"{self._address or 'Ray'} did not answer within {CONNECTING:g} s as Ray does; check --ray-address."
            ) from None
        _keep_signals()
        links = [asyncio.create_task(self._start_worker()) for _ in range(self._wanted)]
        try:
            for link in await asyncio.gather(*links):
                self._add(link)
        finally:
            for task in links:
                task.cancel()

    def _connect(self) -> None:
        """Start Ray on this machine, or connect to a cluster; where this process is connected already, use that."""
        address = self._address
        local = address is None
        settings = {**QUIET}
        if address is None:
            token = secrets.token_hex(32)
            SECRETS.add(token)
            # without a token other users of this machine could run code in the workers
            settings |= LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        elif address != "auto":
            _check_listens(address)
            if address.startswith(("127.", "localhost:", "[::1]:")):
                settings |= LOOPBACK
        with _environment(settings):
            import ray

            logging.getLogger("ray").setLevel(logging.ERROR)
            if ray.is_initialized():
                return
            # it prints on standard output that a worker died, whatever the options say; the run tells that itself
            import_module("ray._private.worker").__dict__["print_to_stdstream"] = lambda *_, **__: None
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if local:
                self._directory = TemporaryDirectory(prefix="explaineval-", dir=TEMPORARY, ignore_cleanup_errors=True)
                options |= {"num_cpus": self._wanted, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
                options["_temp_dir"] = self._directory.name
            self._connected = True
            try:
                with _no_dashboard():
                    ray.init("local" if address is None else address, **options)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as exc:
                what = "Ray cannot be started on this machine" if local else f"no Ray cluster is reached at {address}"
                raise InputError(f"{what}: {_sentence(exc)}.") from exc

    def _disconnect(self) -> None:
        if not self._links and not self._connected:
            return
        import ray

        with suppress(Exception):  # whatever state Ray is in by now
            for link in self._links:
                ray.kill(link.actor)
        if self._connected:
            ray.shutdown()

    async def _start_worker(self) -> _Link:
        """Start a worker, and check that its explaineval is this one. Raises InputError."""
        import ray

        # no share of a CPU is reserved: on a cluster that serves models all of them may be taken
        actor_class: Any = ray.remote(RequestSender)
        actor = actor_class.options(
            num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=16, scheduling_strategy="SPREAD"
        ).remote(self._setup)
        try:
            async with asyncio.timeout(STARTING):
                hello = Hello.model_validate_json(await actor.hello.remote())
        except TimeoutError:
            raise InputError(f"a worker did not start on Ray within {STARTING:g} s; look at `ray status`.") from None
        except ray.exceptions.RayError as exc:
            address = re.search(r"\bip=([\w.:]+)", str(exc))
            where = f" {address[1]}" if address else ""
            raise InputError(
                f"a worker cannot start on the Ray node{where} ({_sentence(exc)}); explaineval {__version__} must be "
                "installed on every node."
            ) from exc
        if hello.version != __version__:
            raise InputError(
                f"the Ray node {hello.host} has explaineval {hello.version}, this machine {__version__}: install the "
                "same version on every node."
            )
        return _Link(actor, hello)

    def _add(self, link: _Link) -> None:
        self._links.append(link)
        link.collecting = asyncio.create_task(self._collect(link))
        self._changed.set()

    async def _least_loaded(self) -> _Link:
        """Return the worker with the fewest calls under way; wait where all were lost. Raises EndpointError."""
        while not self._links:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        return min(self._links, key=lambda link: len(link.pending))

    def _hand_over(self, link: _Link) -> None:
        if link in self._links and link.outbox:
            calls, link.outbox = link.outbox, {}
            link.actor.send.remote(join(calls.values()))

    async def _collect(self, link: _Link) -> None:
        """Take a worker's replies until it is lost."""
        import ray

        lost = False
        while not lost:
            replies = asyncio.ensure_future(link.actor.collect.remote())
            try:
                for _ in range(2):  # a machine that slept finds its time over before it looks at what has come
                    await asyncio.wait({replies}, timeout=SILENCE)
                lost = not replies.done()
                for line in () if lost else split(replies.result()):
                    self._take(link, line)
            except (ray.exceptions.RayError, ValueError):
                lost = True
            finally:
                replies.cancel()
        self._lose(link)

    def _take(self, link: _Link, line: bytes) -> None:
        """Hand a reply to the call that waits for it. Raises ValueError for what is no reply."""
        number, outcome = decode_reply(line)
        answer, _ = link.pending.get(number, (None, ""))
        if answer is None or answer.done():  # given up meanwhile
            return
        self._losses = 0
        if isinstance(outcome, Completion):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)

    def _lose(self, link: _Link) -> None:
        """End a worker, fail its calls under way, and start another one."""
        import ray

        self._links.remove(link)
        with suppress(Exception):  # it is dead or frozen; what it still sends must not arrive as well
            ray.kill(link.actor)
        for number, (answer, where) in link.pending.items():
            if not answer.done():
                reason = f"{where}: the worker {link.name} was lost before the answer came"
                answer.set_exception(TransientError(reason, unbilled=number in link.outbox))
        self._losses += 1
        if self._losses > MOST_LOSSES * self._wanted:
            self._error = EndpointError(
                f"{counted(self._losses, 'worker')} on Ray {agreeing(self._losses, 'were')} lost in a row, the last "
                f"one {link.name}; look at Ray's logs."
            )
            self._changed.set()
            return
        self.report(
            f"the worker {link.name} was lost: its {counted(len(link.pending), 'call')} under way, which may be "
            f"charged, {agreeing(len(link.pending), 'are')} asked again, and another worker is started."
        )
        task = asyncio.create_task(self._replace())
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self) -> None:
        try:
            self._add(await self._start_worker())
        except ExplainevalError as exc:
            self.report(f"no other worker is started: {exc}")
            here = asyncio.current_task()
            if not self._links and all(task is here or task.done() for task in self._replacing):
                self._error = EndpointError(f"no worker is left on Ray: {exc}")
                self._changed.set()


@dataclass
class WorkerTransport:
    """A transport whose requests are sent by workers; `name` is its class there, as module:class."""

    name: str
    workers: RayWorkers

    async def complete(self, request: Request) -> Completion:
        """Return the completion that a worker received."""
        return await self.workers.complete(self.name, request)

    async def close(self) -> None:
        """End the workers, which all transports of a run share."""
        await self.workers.close()


def _where(request: Request) -> str:
    return f"{request.model} at {request.endpoint}" if request.endpoint else request.model


def _sentence(error: BaseException) -> str:
    """Return the last line of an error of Ray's that says something, without secrets and without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return SECRETS.mask(lines[-1])[:240].rstrip(". ")


def _check_listens(address: str) -> None:
    """Raise InputError where nothing listens at HOST:PORT, for which Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass
    except OSError as exc:
        reason = exc.strerror or str(exc) or type(exc).__name__
        raise InputError(f"no Ray cluster is reached at {address}: {reason}; check --ray-address.") from exc


def _keep_signals() -> None:
    """Install this program's handlers of signals again, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler is not None:
            signal.signal(number, handler)
            signal.siginterrupt(number, False)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set yet, for Ray and the processes that it starts, while inside."""
    new = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextmanager
def _no_dashboard() -> Iterator[None]:
    """Keep Ray from starting its dashboard's process, while inside.

    It is started also where no dashboard is wanted and usage statistics are off, and asks the metadata services of
    three clouds where it runs.
    """
    node_class: Any = import_module("ray._private.node").Node
    plain = getattr(node_class, "start_api_server", None)
    if plain is None:  # another version of Ray
        yield
        return
    node_class.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        node_class.start_api_server = plain


class _Thread:
    """A thread for calls of Ray that block; it does not keep the process alive.

    It lives as long as Ray on this machine, whose processes the kernel ends with the thread that started them.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="ray", daemon=True).start()

    async def call(self, function: Callable[[], None], seconds: float) -> None:
        """Call a function in the thread. Raises what it raises, and TimeoutError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(error: BaseException | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                function()
            except BaseException as exc:  # SystemExit too, which Ray raises
                error = exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}")
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, error)

        self._calls.put(work)
        async with asyncio.timeout(seconds):
            await done

    def end(self) -> None:
        """End the thread after the calls that it was given."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
