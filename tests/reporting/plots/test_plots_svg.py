"""The drawings: what stands in the SVG is what was measured, and nothing in it runs, leaves the page or changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import pytest

from explaineval.reporting.comparison_view import document_of
from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.drawing import COLOURS, colour_of, draw_pdf, draw_svg, shape_of
from explaineval.reporting.plots.figure import Figure
from explaineval.reporting.results import ComparedRuns, read_results
from explaineval.rundir.directory import write_metrics
from makers.drawn import SVG, elements, path_of, points_of, root_of
from makers.planted import Planted, families, make_planted_run

DIGITS = 2e-4
"""How much of the length of an axis the SVG's six decimals and matplotlib's own rounding may cost."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ComparedRuns:
    """Four families of two sizes at two levels, with metrics.json."""
    run = make_planted_run(
        tmp_path_factory.mktemp("drawn") / "run",
        families(4),
        examples=60,
        per_example=5,
        levels=("brief", "detailed"),
    )
    results = read_results([run])
    write_metrics(run, results.runs[0].rows)
    return results


@pytest.fixture(scope="module")
def drawn(results: ComparedRuns) -> dict[str, tuple[Figure, str]]:
    """Every figure with its SVG, by id."""
    figures = [figure for figure in figures_of(results) if isinstance(figure, Figure)]
    return {figure.id: (figure, draw_svg(figure)) for figure in figures}


METRICS_OF = {
    "forest-phi_cct": ("phi_cct", None),
    "forest-f_auroc": ("f_auroc", None),
    "size-cct": (None, "cct"),
    "size-f_auroc": (None, "f_auroc"),
    "plane": ("fpr", "tpr"),
    "agreement-detailed": ("phi_cct_tvd_trials", "cct"),
    "accuracy": ("accuracy", "phi_cct"),
}
"""The metrics on the axes of a figure; None for an axis without one."""


@pytest.mark.parametrize("name", METRICS_OF)
def test_the_coordinates_in_the_svg_are_the_numbers_of_metrics_json(
    results: ComparedRuns, drawn: dict[str, tuple[Figure, str]], name: str
) -> None:
    """Read back from the drawing through the limits of its axes."""
    figure, svg = drawn[name]
    rows = json.loads((results.runs[0].directory / "metrics.json").read_text())
    values = {(row["model"], row["verbosity"], row["metric"]): row["value"] for row in rows}

    places = points_of(svg, figure)

    assert len(places) == len(figure.points) > 5
    for (series, at), place in places.items():
        condition = figure.series[series].points[at].condition
        for axis, metric, value in zip((figure.x, figure.y), METRICS_OF[name], place, strict=True):
            if metric is not None:
                expected = values[condition.model, condition.verbosity, metric]
                assert value == pytest.approx(expected, abs=DIGITS * (axis.high - axis.low))


def test_the_interval_in_the_svg_is_that_of_metrics_json(
    results: ComparedRuns, drawn: dict[str, tuple[Figure, str]]
) -> None:
    """Both ends of each bar."""
    figure, svg = drawn["forest-phi_cct"]
    rows = {(row.model, row.verbosity): row for row in results.runs[0].rows if row.metric == "phi_cct"}

    for number, series in enumerate(figure.series):
        for at, point in enumerate(series.points):
            (low, _), (high, _) = path_of(svg, figure, f"x-interval-{number}-{at}")
            row = rows[point.condition.model, point.condition.verbosity]
            assert (low, high) == pytest.approx((row.low, row.high), abs=1e-3)


def test_the_trend_in_the_svg_is_that_of_compare(results: ComparedRuns, drawn: dict[str, tuple[Figure, str]]) -> None:
    """The slope of the drawn line per tenfold size."""
    figure, svg = drawn["size-f_auroc"]
    groups = document_of(results.comparisons)["groups"]
    [family] = [family for group in groups for family in group["families"] if family["metric"] == "f_auroc"]

    line = next(number for number, line in enumerate(figure.lines) if line.kind == "trend")
    (x, y), (u, v) = path_of(svg, figure, f"line-{line}")

    assert (x, u) == pytest.approx((1e8, 1e9), rel=1e-3)
    assert v - y == pytest.approx(family["trend"]["value"], abs=2e-3)


def test_moved_marks_say_how_far(drawn: dict[str, tuple[Figure, str]]) -> None:
    """The place in the SVG without the shift is the size of the model."""
    figure, svg = drawn["size-cct"]
    found = elements(svg)

    for (series, at), (x, _) in points_of(svg, figure).items():
        element = found[f"{figure.id}-point-{series}-{at}"]
        size = float(element.attrib["data-x"])
        assert size == figure.series[series].points[at].x
        assert x / 10 ** float(element.get("data-shift", 0)) == pytest.approx(size, rel=2e-3)


def test_every_point_says_what_it_is(drawn: dict[str, tuple[Figure, str]]) -> None:
    """Its title has the name of the model and the numbers with their limits."""
    figure, svg = drawn["forest-f_auroc"]
    point = figure.series[0].points[0]

    title = elements(svg)[f"{figure.id}-point-0-0"].find(f"{SVG}title")

    assert title is not None
    assert title.text == f"{point.label}: F-AUROC {point.x:.3f} [{point.x_limits[0]:.2f}, {point.x_limits[1]:.2f}]"


@pytest.mark.slow
def test_the_same_figure_is_the_same_bytes(results: ComparedRuns, tmp_path: Path) -> None:
    """Twice in one process, and in another one with another seed of hashes and settings of matplotlib of its own."""
    script = tmp_path / "draw.py"
    script.write_text(
        "import sys, hashlib; from pathlib import Path\n"
        "from explaineval.reporting.plots.drawing import draw_pdf, draw_svg\n"
        "from explaineval.reporting.plots import figures_of\n"
        "from explaineval.reporting.results import read_results\n"
        "figure = next(f for f in figures_of(read_results([Path(sys.argv[1])])) if f.id == 'plane')\n"
        "print(hashlib.sha256(draw_svg(figure).encode() + draw_pdf(figure)).hexdigest())\n"
    )
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\nsvg.fonttype: path\n")
    run = results.runs[0].directory
    environment = {
        **os.environ,
        "PYTHONPATH": ":".join(sys.path),
        "PYTHONHASHSEED": "7",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
    }
    figure = next(figure for figure in figures_of(results) if figure.id == "plane")
    assert isinstance(figure, Figure)

    command = [sys.executable, str(script), str(run)]
    elsewhere = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    svg, pdf = draw_svg(figure), draw_pdf(figure)
    assert (svg, pdf) == (draw_svg(figure), draw_pdf(figure))
    assert elsewhere.strip() == hashlib.sha256(svg.encode() + pdf).hexdigest()


def test_drawings_can_stand_in_one_page(drawn: dict[str, tuple[Figure, str]]) -> None:
    """Ids are unique and every reference points to an id of its own figure; nothing else is referred to."""
    everything: list[str] = []
    for figure, svg in drawn.values():
        found = elements(svg)
        everything += found
        assert all(name.startswith(f"{figure.id}-") for name in found)
        for reference in re.findall(r'href="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg):
            assert reference.removeprefix("#") in found
        assert not re.search(r"<(script|style|image|foreignObject|metadata)|\son\w+=|@import", svg)
        assert set(re.findall(r"https?://[^\"' ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }

    assert len(everything) == len(set(everything))


def test_text_and_axes_take_the_colour_of_the_page(drawn: dict[str, tuple[Figure, str]]) -> None:
    """No ink of its own is left: what is not in a series' colour is `currentColor` or nothing."""
    for _, svg in drawn.values():
        colours = set(re.findall(r"(?:fill|stroke): *([^;\"]+)", svg))
        assert colours <= {"none", "currentColor", *COLOURS}


def test_a_reader_hears_what_is_seen(drawn: dict[str, tuple[Figure, str]]) -> None:
    """The image is labelled by its title and its description."""
    for figure, svg in drawn.values():
        root = root_of(svg)
        found = elements(svg)
        texts = [found[name].text for name in root.attrib["aria-labelledby"].split()]

        assert root.get("role") == "img"
        assert texts[0] == f"{figure.title}, {figure.setting}"
        assert texts[1] == figure.alt


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_seen_on_light_and_on_dark_ground() -> None:
    """A contrast of 3 to 1 and more to white and to a dark page (WCAG 2, 1.4.11)."""
    for colour in COLOURS:
        assert (luminance("#ffffff") + 0.05) / (luminance(colour) + 0.05) >= 3
        assert (luminance(colour) + 0.05) / (luminance("#14171c") + 0.05) >= 3


def test_shapes_tell_looks_apart_without_colour() -> None:
    """The first eleven have a shape of their own; with the colour none comes twice among 88."""
    assert len({shape_of(look) for look in range(11)}) == 11
    assert len({(colour_of(look), shape_of(look)) for look in range(88)}) == 88


TAGS = {"svg", "title", "desc", "style", "g", "path", "defs", "clipPath", "rect", "use", "text"}

HOSTILE = (
    "a/$x_1^2$ \\frac{",
    'b/<script>alert("1")</script>&amp;',
    "c/]]><img src=x onerror=alert(1)>",
    "d/" + "long" * 100,
    "e/\u202eevil\x00\x1b[31m\ufffe",
    "f/模型 עברית",
    "_g/__hidden",
)


def test_hostile_names_stay_texts(tmp_path: Path) -> None:
    """They are shown as they are written, shortened, and without characters that XML or a reader cannot bear."""
    models = [
        Planted(name, 0.3 + 0.05 * number, 0.1, family=HOSTILE[3 + number % 3], parameters=10.0 ** (8 + number))
        for number, name in enumerate(HOSTILE)
    ]
    results = read_results([make_planted_run(tmp_path / "run", models)])
    texts = ""
    for figure in figures_of(results):
        if isinstance(figure, Figure):
            svg = draw_svg(figure, standalone=True)
            root = root_of(svg)
            assert {element.tag.removeprefix(SVG) for element in root.iter()} <= TAGS
            texts += "\n".join(element.text or "" for element in root.iter(f"{SVG}text"))
            if figure.id == "plane":
                assert draw_pdf(figure).startswith(b"%PDF")

    for name in (*HOSTILE[:3], *HOSTILE[5:]):
        assert name in texts
    assert "d/longlong" in texts
    assert "long" * 50 not in texts
    assert "\u202e" not in texts


def test_a_file_of_its_own_follows_the_reader_s_preference(drawn: dict[str, tuple[Figure, str]]) -> None:
    """Dark text on light ground or light text on dark ground; in a page the page decides."""
    figure, svg = drawn["plane"]

    assert "prefers-color-scheme:dark" in draw_svg(figure, standalone=True)
    assert "prefers-color-scheme" not in svg
    assert 'width="' not in svg.split(">", 1)[0]


@pytest.mark.parametrize(
    ("renamed", "mark"),
    [
        (range(99), "All models here are simulated, not language models."),
        ({1}, "simulated/…: simulated, not a language model."),
    ],
)
def test_simulated_models_are_marked_in_the_drawing(
    drawn: dict[str, tuple[Figure, str]], renamed: Container[int], mark: str
) -> None:
    """All of them, or one among others; where there are none, nothing is said."""
    figure, svg = drawn["forest-f_auroc"]
    points = [
        replace(point, condition=point.condition._replace(model="simulated/faithful")) if number in renamed else point
        for number, point in enumerate(figure.points)
    ]

    marked = draw_svg(replace(figure, series=(replace(figure.series[0], points=tuple(points)),)))

    assert mark in marked
    assert "simulated" not in svg


def test_the_pdf_has_the_width_of_a_column_and_holds_its_fonts(drawn: dict[str, tuple[Figure, str]]) -> None:
    """TrueType fonts inside, no Type 3 fonts, which many journals refuse."""
    for name in ("plane", "forest-f_auroc"):
        pdf = draw_pdf(drawn[name][0])
        [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)

        assert float(box[0]) / 72 == pytest.approx(3.4, abs=0.01)
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
