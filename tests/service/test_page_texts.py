"""What the service's pages are made of: the form's settings and fields, words and drawings, and errors as pages."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

import explaineval
from explaineval.errors import InputError
from explaineval.records import MetricRow
from explaineval.service import pages, web, wording
from explaineval.service.models import PhiView, Plan, RunSettings, RunView, Warning
from explaineval.service.submissions import MODEL_ROWS, Form, field_of
from explaineval.service.web import sentence_of

CASES = {"low": 1.0, "expected": 2.0, "worst": 3.0}
SUMS: dict[str, Any] = {
    "planned": 10, "distinct": 10, "hits": 4, "misses": 1, "tokens_in": 5, "tokens_out": CASES, "usd": CASES,
    "usd_saved": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "openai/m at lab: the connection is refused; is it running and reachable? `explaineval probe` tells more.",
            "openai/m at lab: the connection is refused; is it running and reachable?",
        ),
        (
            "no key was sent: with a base URL it is taken only from EXPLAINEVAL_API_KEY, or from the variable that "
            "--api-key-env names (--api-key-env OPENAI_API_KEY, if that key may go there) (status 401: no).",
            "No key was sent: the operator names its variable in serve.yaml (status 401: no).",
        ),
        (
            "--shots 4 may help, --max-tokens where one is cut off. To go on nevertheless give the same command with "
            "--keep-unreadable.",
            "Shots 4 may help, max_tokens where one is cut off. To go on nevertheless submit the run with "
            "keep_unreadable.",
        ),
        ("the model says a--b, -- and x --1.", "The model says a--b, -- and x --1."),
    ],
)
def test_reasons_name_settings_instead_of_commands(text: str, shown: str) -> None:
    """Users of the service have no command line."""
    assert wording.sentence(text) == shown


def texts_of(tree: ast.AST) -> Iterator[str]:
    """Yield the texts in a module, those in braces of f-strings as a word; docstrings are left out."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inside.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "WORD" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def test_no_text_of_the_package_brings_a_command_to_users() -> None:
    """Of all that reaches users of the service: whatever it names of a terminal is said otherwise, or left out."""
    source = Path(explaineval.__file__).parent
    terminal = re.compile(r"--[a-z]|`explaineval |explaineval \w+ RUN_DIR|pip install|EXPLAINEVAL_|same command")
    texts = {
        text
        for path in source.rglob("*.py")
        if path.relative_to(source).parts[0] not in ("cli", "service", "cluster", "archive", "assist", "reporting")
        for text in texts_of(ast.parse(path.read_text(encoding="utf-8")))
        if " " in text and terminal.search(text)
    }
    left = {text: wording.for_users(text) for text in texts if terminal.search(wording.for_users(text))}

    assert len(texts) > 100
    assert left == {}


def test_errors_and_reasons_are_said_for_users() -> None:
    """In the API as on pages: messages, why a run or a model is as it is, and warnings of plans."""
    progress = model(reason="give --price IN,OUT", phi=[PHI | {"undefined": "no shams were asked (--shams 0)"}])
    run = view(progress, reason="no price is known; give --price IN,OUT")
    warning = Warning(code="c", grade="mind", text="Raise --limit.", todo="Give --price IN,OUT.")

    assert web.message_of(InputError("raise --max-tokens")) == "raise max_tokens"
    assert run.reason == "no price is known; ask the operator of the service"
    assert run.progress is not None
    assert run.progress.models[0].reason == "ask the operator of the service"
    assert run.progress.models[0].phi[0].undefined == "no shams were asked (shams 0)"
    assert (warning.text, warning.todo) == ("Raise limit.", "Ask the operator of the service.")


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("queued", "it waits for a free worker.", "The run is queued. It waits for a free worker."),
        ("waiting", "it waits for lab.", "The run is waiting: 4 of 10 requests are done. It waits for lab."),
        ("failed", "no.", "The run is failed: 4 of 10 requests are done."),
    ],
)
def test_a_state_is_said_with_what_is_waited_for(state: str, reason: str, said: str) -> None:
    """At once on the page of a run, for those who do not see it."""
    run = view(model(), state=state, reason=reason)
    page = pages.page("live.html", None, document=run).body.decode()

    assert pages.status_line(run) == said
    assert f'data-state="{state}" data-status="{said}"' in page


def test_a_form_says_what_the_api_takes() -> None:
    """Everything that the form has, and the API reads it."""
    form = Form(
        {
            "tasks": ["sense", "jsonl:mine.jsonl"],
            "endpoint": ["simulated", "lab", "lab"],
            "model": [" faithful ", "openai/m", ""],
            "order": ["pe", "ep"],
            "style": ["chat"],
            "verbosity": ["normal", "brief"],
            "shots": ["0, 8"],
            "interventions": ["random_adjective"],
            "per_example": ["3"],
            "limit": ["20"],
            "seed": ["-1"],
            "max_usd": ["0.5"],
        }
    )
    expected = {
        "tasks": ["sense", "jsonl:mine.jsonl"],
        "models": [{"model": "simulated/faithful"}, {"model": "openai/m", "endpoint": "lab"}],
        "arms": {"order": ["pe", "ep"], "verbosity": ["normal", "brief"], "shots": [0, 8]},
        "interventions": {"kind": "random_adjective", "per_example": 3},
        "limit": 20,
        "seed": -1,
        "max_usd": 0.5,
    }

    assert form.settings() == expected
    assert json.loads(form.text()) == expected
    assert RunSettings.model_validate(form.settings()).max_usd == 0.5
    assert Form({"interventions": ["file:words.jsonl"]}).settings()["interventions"] == {"file": "words.jsonl"}
    assert len(Form().models) == MODEL_ROWS


@given(
    st.dictionaries(st.sampled_from(["tasks", "model", "endpoint", "shots", "limit", "max_usd"]), st.lists(st.text()))
)
def test_a_form_of_anything_is_read(fields: dict[str, list[str]]) -> None:
    """What a client sends as fields gives settings, or an error of the API, never a fault."""
    form = Form(fields)

    json.loads(json.dumps(form.settings()))
    assert all(isinstance(text, str) for row in form.models for text in row)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tasks": []}, "tasks"),
        ({"model": []}, "models"),
        ({"order": ["upside"]}, "order"),
        ({"shots": ["few"]}, "shots"),
        ({"limit": ["0"]}, "limit"),
        ({"samples": ["1.5"]}, "samples"),
        ({"seed": ["ten"]}, "seed"),
        ({"max_tokens": ["-3"]}, "max_tokens"),
        ({"max_usd": ["much"]}, "max_usd"),
        ({"max_usd": ["nan"]}, "max_usd"),
        ({"interventions": ["random_adjective"], "per_example": ["0"]}, "interventions"),
    ],
)
def test_an_error_finds_its_field(changes: dict[str, list[str]], field: str) -> None:
    """By the sentence of the API, for every field of the form."""
    form = Form({"tasks": ["sense"], "endpoint": ["simulated"], "model": ["faithful"]} | changes)
    with pytest.raises(ValueError, match="validation error") as caught:
        RunSettings.model_validate(form.settings())

    assert field_of(sentence_of(caught.value.errors())) == field  # type: ignore[attr-defined]  # of pydantic


def row(metric: str, value: float | None, **changes: Any) -> MetricRow:
    """Return a row of metrics.json."""
    values: dict[str, Any] = {
        "endpoint": "lab", "model": "m", "task": "sense", "kind": "random_adjective", "order": "pe", "style": "chat",
        "shots": 0,
        "verbosity": "normal", "channel": "explanation", "mention": "word", "judge": None, "metric": metric,
        "value": value, "low": None, "high": None, "n": 40, "n_examples": 10,
        "undefined": "no answer changed" if value is None else None, "signature": "s",
    }  # fmt: skip
    return MetricRow(**values | changes)


def test_the_numbers_of_a_run_are_those_of_explanations() -> None:
    """One entry a condition; reasoning, judges and other metrics stay out of it."""
    rows = [
        row("phi_cct", 0.5, low=0.4, high=0.6), row("tpr", 0.9), row("fpr", None),
        row("impact_rate", 0.2, channel=None, mention=None), row("phi_cct", 0.1, channel="reasoning"),
        row("phi_cct", 0.2, judge="openai/j", mention="judge"), row("accuracy", 1.0),
        row("phi_cct", None, task="mean"), row("tpr", 1.0, task="nli"),
    ]  # fmt: skip
    first, mean = pages.headline(rows)

    assert (first.phi.value, first.phi.low) == (0.5, 0.4)
    assert first.rates == {"TPR": 0.9, "FPR": None, "Impact rate": 0.2}
    assert first.arm == "sense, random_adjective, pe, chat, 0 shots, normal"
    assert mean.arm.startswith("mean over tasks, ")
    assert mean.phi.undefined == "no answer changed"


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_an_interval_is_drawn_in_its_place(values: list[float]) -> None:
    """From left to right as the numbers are, inside of the drawing, zero in the middle."""
    low, value, high = sorted(values)
    phi = {"kind": "k", "n": 5, "n_examples": 5, "conditions": 1, "undefined": None}
    drawn = pages.interval(PhiView(value=value, low=low, high=high, **phi))

    assert drawn is not None
    assert 0 <= drawn.low <= drawn.value <= drawn.high <= pages.WIDTH
    assert drawn.zero == pages.WIDTH / 2
    assert pages.interval(PhiView(value=None, low=None, high=None, **phi)) is None


def model(**changes: Any) -> dict[str, Any]:
    """Return how far a model is."""
    return {
        "endpoint": None, "model": "m", "state": "running", "reason": None, "planned": 10, "distinct": 10, "done": 4,
        "hits": 1, "sent": 3, "unsent": 0, "retries": 0, "rate": 2.0, "seconds_left": 3.0, "usd": 0.0,
        "usd_left": None, "max_usd": None, "outcomes": {"ok": 3, "refused": 1, "empty": 0}, "phi": [],
    } | changes  # fmt: skip


PHI = {"kind": "k", "value": None, "low": None, "high": None, "n": 5, "n_examples": 5, "conditions": 1}


def view(*models: dict[str, Any], state: str = "running", reason: str | None = None) -> RunView:
    """Return a run with these models, which goes on unless a state says otherwise."""
    progress = {"state": "running", "reason": None, "started": "s", "updated": "u", "models": models}
    return RunView.model_validate(
        {
            "id": "0" * 16, "state": state, "reason": reason, "token": "t", "created": "c", "started": None,
            "ended": None, "settings": {},
            "kept_usd": 0.0, "unbilled": None, "waits_for": None,
            "place": None, "plan": {"models": [], "total": SUMS, "warnings": []}, "usd": 0.0,
            "max_usd": None, "restarts": 0, "exit_code": None, "progress": progress if models else None,
        }
    )  # fmt: skip


def test_the_time_left_is_that_of_the_slowest_model() -> None:
    """Nothing is said where it is not known of one that goes on; rates add up."""
    slow, unknown, done = model(seconds_left=9.0), model(seconds_left=None, rate=None), model(state="done", rate=None)

    assert pages.left(view(model(), slow, done)) == 9.0
    assert pages.left(view(model(), unknown)) is None
    assert pages.left(view(done)) is None
    assert pages.left(view()) is None
    assert (pages.rate(view(model(), slow)), pages.rate(view(unknown)), pages.rate(view())) == (4.0, None, None)
    assert pages.status_line(view(model(), slow)) == "The run is running: 8 of 20 requests are done."
    assert pages.failures(view(model()).progress.models[0]) == [("refused", 1)]  # type: ignore[union-attr]  # it has one


def test_a_comparison_says_what_limits_it() -> None:
    """The gravest first, each once, escaped; the mean over tasks and the kind are named where there are several."""

    def warning(task: str, grade: str, text: str) -> dict[str, Any]:
        return {"row": {"task": task, "kind": "random_word"}, "grade": grade, "text": text, "todo": "Ask more."}

    mild, grave = warning("nli", "mind", "few <b>words</b>."), warning("mean", "do not quote", "noise.")
    comparison = {"groups": [], "rows": [], "warnings": [mild, mild, grave]}

    shown = pages.page("compare.html", None, choices=[], chosen=[], comparison=comparison, message=None).body.decode()

    first = "Do not quote: on the mean over tasks, random_word: noise. Ask more."
    second = "Mind: on nli, random_word: few &lt;b&gt;words&lt;/b&gt;. Ask more."
    assert f"<li>{first}</li><li>{second}</li></ul>" in shown
    assert pages.limits([mild]) == ["Mind: few <b>words</b>. Ask more."]
    none = pages.page(
        "compare.html", None, choices=[], chosen=[], comparison=comparison | {"warnings": []}, message=None
    )
    assert b"What limits" not in none.body


def test_a_price_is_said_in_a_line() -> None:
    """Or that something is wrong."""
    plan = Plan.model_validate({"models": [], "total": SUMS, "warnings": []})

    assert pages.price_line(plan) == "$2.00 expected, $3.00 at the worst; 1 request to send"
    assert pages.price_line(None) == "Something is wrong."


@pytest.mark.parametrize(
    ("path", "accept", "status", "is_page"),
    [
        ("/fault", "text/html,*/*", 500, True),
        ("/fault", "*/*", 500, False),
        ("/api/fault", "text/html", 500, False),
        ("/nope", "text/html", 404, True),
        ("/nope", "application/json", 404, False),
    ],
)
def test_a_fault_is_a_page_for_browsers(path: str, accept: str, status: int, is_page: bool) -> None:
    """It names the kind of the error and nothing that is in it."""
    app = FastAPI()
    web.install_errors(app)

    @app.get("/fault")
    @app.get("/api/fault")
    def fault() -> None:
        raise ZeroDivisionError("<b>secret</b>")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, headers={"accept": accept})

    reply = asyncio.run(ask())

    assert reply.status_code == status
    assert reply.headers["content-type"].startswith("text/html" if is_page else "application/json")
    assert "secret" not in reply.text
    assert "ZeroDivisionError" in reply.text or status == 404
    assert ("content-security-policy" in reply.headers) == is_page


def test_every_file_of_the_pages_is_given_out() -> None:
    """Templates name no other file, and nothing from elsewhere."""
    place = Path(pages.__file__).parent / "templates"
    text = "".join(path.read_text(encoding="utf-8") for path in place.glob("*.html"))
    named = {part.split('"')[0] for part in text.split('"{{ base() }}/static/')[1:]}

    assert named == set(pages.STATIC)
    assert all(pages.static_file(name) for name in named)
    assert pages.static_file("../actions.py") is None
    assert "http://" not in text
    assert "https://" not in text
    assert "|safe" not in text
    assert " style=" not in text
