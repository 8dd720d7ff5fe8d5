"""The service asked everything that its OpenAPI description allows, and much that it does not."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from servers.service import RUN, TOKENS, Service

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    unsupported_method,
]  # fmt: skip
HEADERS = {"Authorization": f"Bearer {TOKENS['boss']}"}
FEW = settings(
    max_examples=8, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def run_id(service: Service) -> str:
    """Return the id of a run that is there."""
    listed = service.ask("GET", "/api/runs", token=TOKENS["boss"]).document["runs"]
    return str(listed[0]["id"]) if listed else service.submit(RUN, TOKENS["boss"])


@pytest.fixture(scope="module")
def schema(service: Service) -> Any:
    """The OpenAPI description as schemathesis reads it."""
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{service.port}/openapi.json")


def test_every_operation_answers_as_described(service: Service, schema: Any) -> None:
    """Values that fit the description and values that do not, half of them about a run that is there."""
    known = run_id(service)
    names = []
    for result in schema.get_all_operations():
        operation = result.ok()
        names.append(operation.label)

        @FEW
        @schemathesis.pytest_free_given(operation)
        def ask(case: Any) -> None:
            case.call_and_validate(headers=HEADERS, checks=CHECKS)

        ask()
    assert len(names) > 20
    assert known
