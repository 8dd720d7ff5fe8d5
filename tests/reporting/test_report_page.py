"""The report page: its numbers against metrics.json and the comparison, its structure, hostile names, bundles."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from explaineval.records import Condition
from explaineval.reporting.page import isolated, render
from explaineval.reporting.page.content import PageContent, content_of, for_page
from explaineval.reporting.page.tables import ConditionTable, axis_of
from explaineval.reporting.results import ComparedRuns, read_results
from explaineval.reporting.view import scaled_text
from explaineval.scoring.metric import OPEN, SHARE, KindMetric
from explaineval.scoring.registry import METRICS
from makers.command_line import Call
from makers.reports import varied_run
from makers.runs import make_missing, make_run, make_sham, make_trial

HEBREW = "\u05e9\u05dc\u05d5\u05dd"
HOSTILE = f"</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' \u202eevil\x00 {HEBREW} {{{{7*7}}}}"
VOID = {"meta", "br", "wbr", "input", "img", "path", "line", "circle", "use", "rect"}


class Page(HTMLParser):
    """What is in a page: its elements with their attributes, the text of tables by id, what stays open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.unbalanced: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[int] = []
        self._open: list[str] = []
        self._table: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append((tag, values))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self._table = values.get("id")
            self.tables[self._table or ""] = []
        if tag == "tr":
            self.tables[self._table or ""].append([])
        if tag in ("td", "th"):
            self.tables[self._table or ""][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)
        if tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        rows = self.tables.get(self._table or "")
        if rows and rows[-1] and {"td", "th"} & set(self._open):
            rows[-1][-1] += data

    def values(self, name: str) -> list[str]:
        """The values of an attribute, of all elements."""
        return [str(attributes[name]) for _, attributes in self.elements if attributes.get(name) is not None]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ComparedRuns:
    """Two models at two levels, with words and cues, missing trials and shams."""
    return read_results([varied_run(tmp_path_factory.mktemp("page") / "run")])


@pytest.fixture(scope="module")
def content(results: ComparedRuns) -> PageContent:
    """What the page says of them."""
    return content_of(for_page(results))


@pytest.fixture(scope="module")
def html(content: PageContent) -> str:
    """The page, without figures and trials."""
    return render(content)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    """What is in it."""
    return Page(html)


def tables_of(content: PageContent) -> Iterator[ConditionTable]:
    """All tables of metrics."""
    for finding in content.findings:
        yield finding.table
        yield finding.more
        yield from (task.table for task in finding.tasks)
    yield from (content.noise, content.bounds)


def test_each_number_is_that_of_a_row(results: ComparedRuns, content: PageContent, page: Page) -> None:
    """Each value of metrics.json stands on the page with all digits, and no other value does."""
    rows = [row for row in results.runs[0].rows if row.value is not None]
    shown = {value.value for table in tables_of(content) for row in table.rows for value in row.values if value}

    missing = {row.metric for row in rows if row.value not in shown}
    assert missing <= {"null_edit_flip_rate"}
    assert shown - {None} <= {row.value for row in rows}
    differences = {row.family.differences[0].value for one in results.comparisons for row in one.families}
    assert {float(value) for value in page.values("value") if value} <= shown | differences


def test_cells_are_written_as_their_rows(results: ComparedRuns, content: PageContent, page: Page) -> None:
    """Read back from the HTML: name, value and limits of every cell are those of its condition's row."""
    rows = {(row.condition.without_mention, row.metric): row for row in results.runs[0].rows}
    finding = next(one for one in content.findings if one.table.columns[0].metric == "phi_cct")
    heading, *lines = page.tables[finding.table.id]

    assert heading[0] == "model"
    checked = 0
    for line in lines:
        model = line[0]
        level, kind = ("brief" if "brief" in finding.heading else "detailed"), _kind_of(finding.heading)
        condition = Condition("lab", model, "mine", kind, "pe", "chat", 0, level)
        texts = [text for text in line[1:] if text.strip()]
        for column, text in zip(finding.table.columns, texts, strict=False):
            row = rows[condition, column.metric]
            scale, few = METRICS[column.metric].scale, row.n < 10
            number = "undefined" if row.value is None else scaled_text(row.value, scale)
            if few and scale.percent and row.value is not None:
                number = f"{round(row.value * row.n)} of {row.n}"
            assert text.strip().startswith(number)
            if row.low is not None and row.high is not None:
                unit = "\u202f%" if few and scale.percent else ""
                limits = re.search(r"\[(-?[\d.]+), (-?[\d.]+)" + unit + r"\]", text)
                assert limits is not None, text
                for limit, shown in zip((row.low, row.high), limits.groups(), strict=True):
                    value = 100 * limit if scale.percent else limit
                    assert abs(float(shown) - value) <= 0.5001 * 10.0 ** -len(shown.partition(".")[2])
                    assert len(shown.partition(".")[2]) == scale.digits or abs(value) < 0.5 * 10.0**-scale.digits
            checked += 1
    assert checked >= 2 * 5


def _kind_of(heading: str) -> str:
    return "cue_user" if "cue_user" in heading else "hand"


def test_the_highest_stands_first_and_undefined_last(tmp_path: Path) -> None:
    """Three models: one names nothing that changed its answer, one half of it, one all."""
    names = ("lab/nothing", "lab/half", "lab/all")
    said = {"lab/nothing": 0, "lab/half": 4, "lab/all": 8}
    trials = [
        make_trial(e, n, changed=n == 0, mentioned=n == 0 and e < said[name]) | {"model": name}
        for name in names
        for e in range(8)
        for n in range(4)
    ]
    run = make_run(tmp_path / "run", trials, 8, models=[{"model": name, "endpoint": "lab"} for name in names])

    table = content_of(read_results([run])).findings[0].table

    assert [row.name for row in table.rows] == ["lab/all", "lab/half", "lab/nothing"]
    assert [row.values[0].text if row.values[0] else "" for row in table.rows] == ["1.00", "0.65", "undefined"]


def test_every_metric_has_its_place() -> None:
    """Every metric is in some part of the page, and those of the results have a heading in the tables."""
    for metric in METRICS.values():
        assert metric.views
        if "results" in metric.views:
            assert metric.cell or metric.level_cell
    assert all("noise" not in metric.views for metric in METRICS.values() if metric.name == "phi_cct")


def test_a_new_metric_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number and its definition, from its value in the registry alone."""
    new = KindMetric(name="brand_new", title="brand new", definition="It is new.", pitfall="None.", scale=SHARE,
                     compute=METRICS["impact_rate"].compute)  # fmt: skip
    monkeypatch.setitem(METRICS, new.name, new)
    run = make_run(tmp_path / "run", [make_trial(e, n, changed=n == 0) for e in range(4) for n in range(4)], 4)

    text = render(content_of(read_results([run])))

    assert "It is new." in text
    assert re.search(r'title="It is new\.">brand new</span>', text)
    assert scaled_text(0.25, SHARE) in text


def test_missing_trials_are_counted(content: PageContent, page: Page) -> None:
    """Two unparsed and one refused of sixty words, at both levels and for both models."""
    rows = page.tables["missing-table"]

    assert [cell.strip() for cell in rows[0]] == ["model", "scored", "refused", "unparsed", "missing"]
    assert [cell.strip() for cell in rows[1][1:]] == ["57", "1", "2", scaled_text(3 / 60, SHARE)]
    assert len(rows) == 1 + 4
    assert content.missing.whole > 0


def test_warnings_stand_once_and_the_worst_first(results: ComparedRuns, content: PageContent) -> None:
    """Each code once a grade; every warning of the run is among the instances, with what to do."""
    grades = [limits.grade for limits in content.limits]
    assert grades == sorted(grades, key=["do not quote", "mind", "for the record"].index)
    for limits in content.limits:
        codes = [limit.code for limit in limits.limits]
        assert len(set(codes)) == len(codes)
        assert all(limit.todo and limit.title for limit in limits.limits)
    told = {instance.text.lower() for limits in content.limits for one in limits.limits for instance in one.instances}
    for row in results.runs[0].scores.warnings:
        assert row.text.removeprefix(f"{METRICS[row.warning.metric].title}: ").lower() in told


def test_numbers_that_must_not_be_quoted_are_marked(results: ComparedRuns, content: PageContent) -> None:
    """A value is marked just where a warning of that grade is about it."""
    grave = {
        (row.condition.without_mention, row.warning.metric)
        for row in results.runs[0].scores.warnings
        if row.warning.grade == "do not quote"
    }
    for entry in results.conditions:
        own = {metric for condition, metric in grave if condition == entry.condition}
        arm = {metric for condition, metric in grave if condition in (entry.condition.arm, _sham(entry.condition))}
        assert entry.grave == own | arm
    assert grave
    marked = {value.grave for table in tables_of(content) for line in table.rows for value in line.values if value}
    assert marked == {True, False}
    assert any(banner.kind == "grave" for banner in content.banners)


def test_a_sentence_about_a_number_that_must_not_be_quoted_says_so(tmp_path: Path) -> None:
    """One model whose answers seldom change: the sentence is marked, draws no conclusion, and names what else is."""
    trials = [make_trial(e, n, changed=e < 4 and not n, mentioned=e in (0, 1, 9)) for e in range(40) for n in range(4)]
    content = content_of(read_results([make_run(tmp_path / "run", trials, 40)]))

    (finding,) = content.findings
    assert re.fullmatch(r"phi-CCT is \S+ \[.*\], .*, do not quote\.", finding.sentence)
    assert any(re.match(r"Do not quote phi-CCT, .*TPR.*: see the warnings\.", note) for note in finding.notes)


def test_what_limits_a_number_is_counted_once(tmp_path: Path) -> None:
    """A comparison that carries the warning of a condition adds no second one: the page counts as notes do."""
    models = ("openai/blind", "openai/good")
    trials = [
        trial | {"model": model}
        for model in models
        for e in range(60)
        for trial in [
            *(
                make_trial(e, n, changed=e % 4 == n, mentioned=e % 2 if model == models[0] else e % 4 == n)
                for n in range(4)
            ),
            make_sham(e),
        ]
    ]
    entries = [{"model": model, "endpoint": "lab"} for model in models]
    results = read_results([make_run(tmp_path / "run", trials, 60, models=entries)])
    (grave,) = [limits for limits in content_of(results).limits if limits.grade == "do not quote"]
    (inside,) = [limit for limit in grave.limits if limit.code == "inside_example_only"]

    assert "inside_example_only" in {
        one.warning.code for part in results.comparisons[0].leading[0].carried for one in part
    }
    assert (inside.count, inside.instances[0].places) == (1, ("openai/blind",))


def _sham(condition: Condition) -> Condition:
    return condition._replace(kind="sham")


def test_the_page_is_whole(html: str, page: Page) -> None:
    """Every element is closed, ids are unique, links and labels lead to an id, headings skip no level."""
    ids = page.values("id")

    assert page.unbalanced == []
    assert len(set(ids)) == len(ids)
    assert {link.removeprefix("#") for link in page.values("href")} <= set(ids)
    assert {name for names in page.values("aria-labelledby") for name in names.split()} <= set(ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert [tag for tag, _ in page.elements if tag in ("header", "main", "nav", "footer")] == [
        "header", "nav", "main", "footer",
    ]  # fmt: skip
    scopes = [attributes.get("scope") for tag, attributes in page.elements if tag == "th"]
    assert set(scopes) <= {"col", "row"}


def test_the_page_reaches_for_nothing_elsewhere(html: str, page: Page) -> None:
    """No address, no file, no style attribute; the policy allows its own style by hash and nothing from elsewhere."""
    assert page.values("src") == []
    assert page.values("style") == []
    assert [link for link in page.values("href") if not link.startswith("#")] == []
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://|file://", html)
    policy = next(str(a["content"]) for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def hostile_run(directory: Path) -> Path:
    """A model whose name and answers are hostile, beside a plain one."""
    models = [{"model": name, "endpoint": "lab"} for name in (HOSTILE, "openai/plain")]
    trials = [
        make_trial(example, number, changed=number < 2, mentioned=number == 0) | {"model": name, "explanation": HOSTILE}
        for name in (HOSTILE, "openai/plain")
        for example in range(8)
        for number in range(4)
    ]
    return make_run(directory, trials, 8, models=models)


def test_numbers_of_other_channels_stand_apart(tmp_path: Path) -> None:
    """Those of the reasoning have a table of their own, and leave the first table as it is."""
    trials = [
        make_trial(e, n, changed=n == 0, mentioned=False)
        | {"reasoning": "The grumpy clerk." if n == 0 else "The clerk.", "reasoning_before": "The clerk."}
        for e in range(8)
        for n in range(4)
    ]
    results = read_results([make_run(tmp_path / "run", trials, 8)])
    content = content_of(results)

    others = dict(content.others)
    rows = {(row.channel, row.metric): row.value for row in results.runs[0].scores.rows}
    table = others["mentions by word in the reasoning"]
    shown = dict(zip([one.metric for one in table.columns], table.rows[0].values, strict=True))
    assert rows["reasoning", "tpr"] == 1.0
    assert {name: value.value for name, value in shown.items() if value} == {
        name: rows["reasoning", name] for name in shown if ("reasoning", name) in rows
    }
    own = content.findings[0].table
    first = dict(zip([one.metric for one in own.columns], own.rows[0].values, strict=True))
    assert first["tpr"] is not None
    assert first["tpr"].value == rows["explanation", "tpr"] == 0.0
    assert "by word in the reasoning" in render(content)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """They open no element and no attribute, cannot turn the direction of text, and are no template."""
    plain = Page(render(content_of(read_results([varied_run(tmp_path / "plain")]))))
    text = render(content_of(read_results([hostile_run(tmp_path / "run")])))
    page = Page(text)

    assert {tag for tag, _ in page.elements} - {tag for tag, _ in plain.elements} <= {"bdi", "sup"}
    assert {name for _, attributes in page.elements for name in attributes if name.startswith("on")} == set()
    assert page.unbalanced == []
    assert not set("\u202e\x00") & set(text)
    assert "{{7*7}}" in text
    assert f"<bdi>{HEBREW}</bdi>" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", "a &lt; b"),
        ("x \u202e y", "x \\u202e y"),
        ("\u05d0\u05d1 12 \u05d2 and b", "<bdi>\u05d0\u05d1 12 \u05d2</bdi> and b"),
        ("run `a <b>` now", "run <code>a &lt;b&gt;</code> now"),
        ("`<script>", "`&lt;script&gt;"),
        ("y" * 81, "y" * 48 + "…" + "y" * 16),
        ("y" * 80, "y" * 80),
    ],
)
def test_texts_become_html(text: str, expected: str) -> None:
    """Escaped, isolated where they run from right to left, with commands as code, long words shortened."""
    assert str(isolated(text)) == expected


@pytest.mark.parametrize(
    ("numbers", "scale", "low", "high"),
    [
        ((0.1, 0.7), METRICS["phi_cct"].scale, 0.0, 0.8),
        ((-0.31, 0.2), METRICS["phi_cct"].scale, -0.4, 0.2),
        ((0.6, 0.9), METRICS["f_auroc"].scale, 0.5, 0.9),
        ((0.01,), OPEN, None, None),
    ],
)
def test_an_axis_has_room_for_all_numbers_and_for_no_relation(
    numbers: Sequence[float], scale: Any, low: float | None, high: float | None
) -> None:
    """Round limits around them; the value of no relation is on it, and places rise with the numbers."""
    axis = axis_of(numbers, scale)

    assert axis is not None
    assert axis.low <= min(numbers) <= max(numbers) <= axis.high
    if low is not None and high is not None:
        assert (axis.low, axis.high) == (pytest.approx(low), pytest.approx(high))
        assert scale.nothing is not None
        assert axis.low - 1e-9 <= scale.nothing <= axis.high + 1e-9
    places = [axis.at(value) for value, _ in axis.ticks]
    assert places == sorted(places)
    assert places[0] == axis.MARGIN
    assert places[-1] == axis.WIDTH - axis.MARGIN
    assert axis_of([None], scale) is None


def test_drawn_intervals_are_where_their_numbers_are(content: PageContent, html: str) -> None:
    """Read back from the SVG: dot and whiskers of each row, on the axis of its ticks."""
    finding = next(one for one in content.findings if one.table.axis)
    axis, first = finding.table.axis, finding.table.rows[0].values[0]
    assert axis is not None
    assert first is not None
    section = html[html.index(f'<table id="{finding.table.id}"') :]
    drawn = section[section.index('<svg class="interval') :]
    dot = float(re.search(r'cx="([\d.]+)"', drawn)[1])  # type: ignore[index]
    ticks = dict(zip([text for _, text in axis.ticks], [axis.at(value) for value, _ in axis.ticks], strict=True))
    (low_text, low_place), *_, (high_text, high_place) = ticks.items()
    value = float(low_text) + (dot - low_place) / (high_place - low_place) * (float(high_text) - float(low_text))

    assert value == pytest.approx(first.value, abs=0.005)


@pytest.mark.parametrize("missing", ["before", "both"])
def test_a_run_without_a_score_has_a_page(tmp_path: Path, missing: str) -> None:
    """It says that nothing could be measured, and why."""
    run = make_run(tmp_path / "run", [make_missing(e, n, missing) for e in range(3) for n in range(2)], 3)

    content = content_of(read_results([run]))

    assert content.findings[0].sentence == "Nothing could be measured: none of the 6 trials has a score (6 unparsed)."
    assert "undefined: no scored trial" in render(content)


def test_a_run_without_any_trial_has_a_page(tmp_path: Path) -> None:
    """No finding, no table, and a sentence that says so."""
    run = make_run(tmp_path / "run", [], 3)

    assert "Nothing could be measured: no trial has a score." in render(content_of(read_results([run])))


def test_undefined_numbers_have_their_reason(tmp_path: Path) -> None:
    """Where no answer changed there is no phi-CCT: the reason stands in the sentence and below the table."""
    trials = [make_trial(e, n) for e in range(4) for n in range(3)] + [make_sham(e) for e in range(4)]
    content = content_of(read_results([make_run(tmp_path / "run", trials, 4)]))

    assert content.findings[0].sentence == "phi-CCT is undefined: no answer changed."
    assert "undefined: no answer changed" in render(content)


@pytest.mark.slow
def test_the_page_of_a_bundle_is_that_of_its_run(call: Call) -> None:
    """Byte for byte, whatever the bundle is called, and again the same the next time."""
    models = ("--model", "simulated/faithful", "--model", "simulated/random")
    call("run", "--task", "sense", "--limit", "12", *models, "--out", "out")
    call("export", "out", "--out", "sent.zip")

    assert call("report", "out")[0] == 0
    assert call("report", "sent.zip", "--out", "bundle.html")[0] == 0
    document = json.loads(call("report", "out", "--out", "again.html", "--json")[1])

    page = Path("out/report.html").read_bytes()
    assert page == Path("bundle.html").read_bytes()
    assert page == Path("again.html").read_bytes()
    assert document["bytes"] == len(page)
    assert document["findings"][0]["sentence"] in page.decode().replace("&#43;", "+").replace("&lt;", "<")
    assert b"All models here are simulated" in page
    assert str(Path.cwd()).encode() not in page


def test_several_runs_need_a_name_for_the_page(call: Call) -> None:
    """One sentence, exit code 2."""
    sentence = "--out is needed where there are several runs, or a bundle: name the HTML file to write."

    for paths in (("a", "b"), ("a.zip",)):
        code, out, err = call("report", *paths)
        assert (code, out, err) == (2, "", f"explaineval: {sentence}\n")


def test_where_there_is_no_run_nothing_is_made(call: Call, tmp_path: Path) -> None:
    """No directory appears for a name that was mistyped, and a file is called a file."""
    (tmp_path / "file").write_text("", "utf-8")

    for name, what in (
        ("runs/typo", ": no such file or directory; check the path"),
        ("file", " is a file: give a run directory"),
    ):
        code, out, err = call("report", tmp_path / name)
        assert (code, out, err) == (2, "", f"explaineval: {tmp_path / name}{what}.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_page_replaces_no_file_of_a_run(call: Call, tmp_path: Path) -> None:
    """run.json stays what it was."""
    run = varied_run(tmp_path / "run")
    before = (run / "run.json").read_bytes()

    code, out, err = call("report", run, "--out", run / "run.json")

    assert (code, out) == (2, "")
    assert err.startswith(f"explaineval: --out {run / 'run.json'} is a file of the run in {run}, which it would")
    assert (run / "run.json").read_bytes() == before


def test_without_matplotlib_the_page_has_no_figures(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note names the extra, and the page says why each figure is missing."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    run = varied_run(tmp_path / "run")

    code, out, err = call("report", run)

    assert code == 0
    assert "with 0 figures" in out
    assert err.startswith("explaineval: the page has no figures: figures need matplotlib, which is not installed: ")
    assert "matplotlib was not installed where this page was made" in (run / "report.html").read_text("utf-8")
