"""What a line of results becomes: a completion by the ordinary route, or a failure with its reason."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import Any

from explaineval.client.batches.protocols import BatchFailure, Line
from explaineval.client.batches.rehearsals import DUMMY, Rehearsal, Sent
from explaineval.client.batches.wires import CUT, TOO_LONG, Wire
from explaineval.client.endpoints.bodies import MOST_VALUES, TooLargeError, measure
from explaineval.client.litellms import advice_on, key_of
from explaineval.client.responses import read_json
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request
from explaineval.secrets import SECRETS

CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9A-Za-z_.:-]{1,200})"')
RENAMED = "max_completion_tokens"
"""A rejection that names it is mended by the rehearsal, which writes the limit by that name from then on."""


def parse_line(text: bytes) -> dict[str, Any] | Line:
    """The JSON object in a line of results, measured before it is parsed; a Line where there is none to read."""
    try:
        if text.endswith(TOO_LONG):
            raise TooLargeError("too long")
        measure(text, MOST_VALUES)
    except TooLargeError:
        found = CUSTOM_ID.search(text, 0, CUT)
        return Line(found[1].decode("ascii") if found else None, oversized=True)
    try:
        one = read_json(text)
    except (ValueError, RecursionError):  # also bytes that are not UTF-8
        return Line(None)
    return one if isinstance(one, dict) else Line(None)


async def read_line(rehearsal: Rehearsal, request: Request, line: Line) -> Completion | BatchFailure:
    """The completion of a line as the ordinary route would have read it, or why there is none."""
    if line.oversized:
        return Completion(text=None, fault="oversized")
    if line.status is None:
        return BatchFailure(SECRETS.mask(line.reason) or "the batch did not execute it", retryable=line.expired)
    try:
        return await rehearsal.receive(request, line.status, line.body)
    except RequestRejectedError as exc:
        return BatchFailure(str(exc), retryable=RENAMED in str(exc), rejected=True)
    except TransientError as exc:
        return BatchFailure(str(exc), retryable=True)
    except EndpointError as exc:
        return BatchFailure(str(exc))


async def address_wire(rehearsal: Rehearsal, wire: Wire, endpoint: Endpoint, model: str) -> Sent:
    """Where the ordinary route sends its requests; the wire takes its headers, with the key in them.

    Raises EndpointError where there is no key, InputError as `key_of`.
    """
    provider = model.partition("/")[0]
    key = key_of(endpoint, model) or os.environ.get(f"{provider.upper()}_API_KEY")
    if not key:
        raise EndpointError(f"{model}: {advice_on(endpoint, model, 401)}.")
    SECRETS.add(key)
    sent = await rehearsal.address()
    wire.headers = {name: value.replace(DUMMY, key) for name, value in sent.headers.items()}
    wire.advice = partial(advice_on, endpoint, model)
    return sent
