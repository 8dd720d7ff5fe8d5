"""CONTRIBUTING.md, "To add a page of the service": three files, and the page, its link and its document are there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.service import ENVIRONMENT, RUN, SETTINGS, TOKENS, Service

ROOT = Path(__file__).parents[2]
DOCUMENT = '''

class StateCounts(Document):
    """How many zq runs there are in each state."""

    counts: dict[str, int]
'''
"""What a contributor adds to models.py."""
ACTION = '''async def count_states(user: Asking, service: Service) -> StateCounts:
    """Count the runs of the token by state."""
    counts = await asyncio.to_thread(service.table.states)
    return StateCounts(counts=counts.get(user.token, {}))


'''
ROW = """    Action(
        "count_states", "GET", "/api/states", USER, count_states, RUNS,
        pages=(PageRoute("/states", "states.html", "By state"),),
    ),
"""
"""What a contributor adds to actions.py: what is done, and its row in the table."""
TEMPLATE = """{% extends "base.html" %}
{% block title %}By state{% endblock %}
{% block main %}
<h1>Runs by state</h1>
<ul>
{% for state, count in document.counts.items() if count %}
<li>{{ state }}: {{ counted(count, "run") }}</li>
{% endfor %}
</ul>
{% endblock %}
"""


def insert(path: Path, anchor: str, text: str) -> None:
    """Write a text before the only place of another one."""
    content = path.read_text("utf-8")
    assert content.count(anchor) == 1
    path.write_text(content.replace(anchor, text + anchor), "utf-8")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service from a copy of the package with one more page."""
    place = tmp_path_factory.mktemp("page")
    copy = place / "src" / "explaineval"
    shutil.copytree(ROOT / "src" / "explaineval", copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "prompts", place / "prompts")
    models, actions = copy / "service" / "models.py", copy / "service" / "actions.py"
    models.write_text(models.read_text("utf-8") + DOCUMENT, "utf-8")
    insert(actions, "    Submitted,\n", "    StateCounts,\n")
    insert(actions, "async def healthz()", ACTION)
    insert(actions, '    Action("get_session"', ROW)
    (copy / "service" / "templates" / "states.html").write_text(TEMPLATE, "utf-8")
    service = Service(place / "service", SETTINGS, ENVIRONMENT | {"PYTHONPATH": str(place / "src")})
    service.start()
    yield service
    assert service.stop() == 0


def test_the_page_its_link_and_its_document_are_there(served: Service) -> None:
    """One run of ann's is counted, in the API, on the page, and for nobody else; every page has the link."""
    ann = TOKENS["ann"]
    served.wait(served.submit(RUN, ann), ann)
    page = served.ask("GET", "/states", token=ann).body.decode()
    other = served.ask("GET", "/runs", token=ann).body.decode()

    assert served.ask("GET", "/api/states", token=ann).document["counts"]["finished"] == 1
    assert "<li>finished: 1 run</li>" in page
    assert re.search(r'<a href="/states" aria-current="page">\s*By state</a>', page)
    assert '<a href="/states">By state</a>' in other
    assert served.ask("GET", "/api/states", token=TOKENS["bob"]).document == {"counts": {}}


def test_the_right_of_the_table_holds(served: Service) -> None:
    """Without a token the API refuses, the page leads to the login, and OpenAPI says what is needed and returned."""
    described = served.ask("GET", "/openapi.json").document
    operation = described["paths"]["/api/states"]["get"]
    page = served.ask("GET", "/states")

    assert served.ask("GET", "/api/states").status == 401
    assert (page.status, page.headers["location"]) == (303, "/login?next=/states")
    assert (operation["operationId"], operation["tags"]) == ("count_states", ["runs"])
    assert operation["security"] == [{"token": []}]
    assert described["components"]["schemas"]["StateCounts"]["description"].startswith("How many zq runs")
    assert not any(path == "/states" for path in described["paths"])
