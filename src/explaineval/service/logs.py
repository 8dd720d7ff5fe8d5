"""The log of the service: one JSON object a line on standard error, where a line that repeats itself is counted.

No line holds a secret, a prompt or an answer: lines have names, numbers and states, and of errors the kind and the
places in the code, not the message, which may quote what an endpoint said.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

from explaineval.secrets import SECRETS

WRITTEN = 50
"""Log lines of one kind that are written in `REPEAT_SECONDS`; more are counted."""
REPEAT_SECONDS = 60.0
KINDS = 500
FIELDS = "fields"
"""The attribute of a log record that holds the fields of its line."""

log = logging.getLogger("explaineval.service")


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log one line: what happened, and fields that are names, numbers or states."""
    log.log(level, name, extra={FIELDS: fields})


class JsonLines(logging.Formatter):
    """Writes a log record as one line of JSON. Of an exception it has the kind and the places in the code."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, FIELDS, None)
        line["event"] = record.getMessage() if fields is not None or record.exc_info is None else "error"
        line |= {name: value for name, value in (fields or {}).items() if value is not None}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["places"] = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return SECRETS.mask(json.dumps(line, ensure_ascii=True))


class LineKind(NamedTuple):
    """What lines that repeat each other have in common."""

    logger: str
    level: int
    text: str
    names: tuple[tuple[str, object], ...] = ()


OTHER_KINDS = LineKind("explaineval.service", logging.WARNING, "other lines")


class CountedLines(logging.StreamHandler[TextIO]):
    """Writes log lines, and counts those that repeat themselves instead of writing them.

    Lines are alike that differ in numbers and in the id of a run alone. Of each kind `WRITTEN` are written in
    `REPEAT_SECONDS`; then one line says how many more there were. More than `KINDS` kinds at once count as one.

    Args:
        stream: where the lines go.
        clock: returns seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self.setFormatter(JsonLines())
        self.clock = clock
        self._since = clock()
        self._seen: Counter[LineKind] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write or count a line. The lock of the handler is held."""
        self.write_counts()
        kind = _kind_of(record)
        if kind not in self._seen and len(self._seen) >= KINDS:
            kind = OTHER_KINDS
        self._seen[kind] += 1
        if self._seen[kind] <= WRITTEN:
            super().emit(record)

    def write_counts(self, *, now: bool = False) -> None:
        """Write how many lines of each kind were not written, if the time of counting is over, or `now`."""
        if not now and self.clock() < self._since + REPEAT_SECONDS:
            return
        seen, self._seen, self._since = self._seen, Counter(), self.clock()
        for kind, count in seen.items():
            if count > WRITTEN:
                fields = {"of": kind.text, **dict(kind.names), "count": count - WRITTEN}
                super().emit(_record(kind.logger, kind.level, "repeated", fields))

    def close(self) -> None:
        """Write what was counted at the end."""
        with self.lock or nullcontext():
            self.write_counts(now=True)
        super().close()


def _record(name: str, level: int, text: str, fields: Mapping[str, object]) -> logging.LogRecord:
    record = logging.LogRecord(name, level, "", 0, text, None, None)
    setattr(record, FIELDS, fields)
    return record


def _kind_of(record: logging.LogRecord) -> LineKind:
    """Return what a line has in common with those that repeat it."""
    fields = getattr(record, FIELDS, None) or {}
    names = [(key, value) for key, value in fields.items() if type(value) is str and key != "run"]
    if "status" in fields:
        names.append(("status", fields["status"]))
    if record.exc_info and record.exc_info[0] is not None:
        names.append(("error", record.exc_info[0].__name__))
    text = "error" if record.exc_info else str(record.msg)
    return LineKind(record.name, record.levelno, text, tuple(names))


def write_logs() -> CountedLines:
    """Write all log lines to standard error, also those of the server and of other libraries; return what does it."""
    handler = CountedLines(sys.stderr)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("explaineval").setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    return handler
