"""Drawings are well-formed, described in words, and put every value where the axes say."""

import math
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from models.card import Interval
from models.training.curves import label_curves
from models.training.details import detail
from models.training.evaluate import measure
from models.training.figures import Sample, patient_weights
from models.training.report import charts
from models.training.report.svg import Plot, cut, ticks
from tests.unit.models.training.test_details import CARD, SCORED

DETAILS = detail(CARD, SCORED, rounds=20)
METRICS = measure(CARD, SCORED, split="test", rounds=20)


def parsed(drawing: Markup) -> ET.Element:
    """Parse a drawing of ours: it has a description, and no number that is none."""
    assert "nan" not in drawing.replace("nance", "")
    assert "inf" not in drawing
    root = ET.fromstring(drawing)  # noqa: S314 - made here
    assert root.tag == "svg"
    assert root.attrib["role"] == "img"
    assert len(root.attrib["aria-label"]) > 20
    return root


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def test_the_axes_run_from_corner_to_corner() -> None:
    plot = Plot("a", x=(0, 10), y=(-1, 1), width=200, height=100, left=20, right=30, top=5, bottom=15)
    assert (plot.across(0), plot.across(10), plot.across(5)) == (20, 170, 95)
    assert (plot.up(-1), plot.up(1), plot.up(0)) == (85, 5, 45)


def test_marks_stand_where_their_values_are() -> None:
    plot = Plot("a drawing of one line", width=100, height=100, left=0, right=0, top=0, bottom=0)
    plot.line([(0, 0), (0.5, 0.25), (1, 1)], "c1")
    plot.steps([(0.2, 0.9), (0.4, 0.5)], "c2")
    plot.dot((0.25, 0.75), "c1")
    root = parsed(plot.svg())
    line, steps = (path.attrib["d"] for path in root.iter("path"))
    assert line == "M0 100L50 75L100 0"
    assert steps == "M20 10L20 50L40 50"
    [dot] = root.iter("circle")
    assert (dot.attrib["cx"], dot.attrib["cy"]) == ("25", "25")


def test_what_comes_from_the_data_is_never_markup() -> None:
    plot = Plot('<b onload="x">&')
    plot.text((0, 0), "</svg><script>", "tick")
    assert "<script" not in plot.svg()
    assert ET.fromstring(plot.svg()).attrib["aria-label"] == '<b onload="x">&'  # noqa: S314 - made here


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 24, [5, 10, 15, 20]), (0, 213, [0, 50, 100, 150, 200]), (3, 3, [3])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@pytest.mark.parametrize("high", [1e-4, 0.031, 0.7, 2.6, 19.0, 1234.0])
def test_ticks_are_few_and_within(high: float) -> None:
    found = ticks(0, high)
    assert 2 <= len(found) <= 6
    assert found[0] == 0
    assert found[-1] <= high


def test_long_names_are_cut_and_others_are_not() -> None:
    assert cut("cohen", 8) == "cohen"
    assert cut("a very long source", 8) == "a very …"


def test_the_confusion_matrix_shows_shares_and_counts() -> None:
    found = texts(parsed(charts.confusion(CARD, [[8, 2, 0], [0, 0, 0], [1, 1, 2]])))
    assert {"0.80", "8", "0.50", "2", "most probable label", "true label", "pneumonia"} <= set(found)
    assert found.count("-") == 3  # of a label without films there is no share


@pytest.mark.parametrize("name", ["normal", "pneumonia", "covid"])
def test_every_label_has_its_curves(name: str) -> None:
    curves = DETAILS.curves[name]
    root = parsed(charts.roc(name, 1, curves, METRICS.labels[name].auroc))
    assert f"area {METRICS.labels[name].auroc.value}" in root.attrib["aria-label"]
    assert {"sensitivity", "false alarms (1 - specificity)"} <= set(texts(root))
    parsed(charts.precision_recall(name, 1, curves))
    assert "0.9" in texts(parsed(charts.by_threshold(name, 0.9, curves, "film")))


def test_reliability_is_drawn_from_few_films_too() -> None:
    few = detail(CARD, SCORED.part(SCORED.targets.argsort()[:3]), rounds=5)
    for details in (DETAILS, few):
        parsed(charts.reliability(details.reliability, "film"))
        parsed(charts.sureness(details.reliability, "film"))
    assert 'hollow"' in charts.reliability(few.reliability, "film")


def test_small_parts_are_named_and_not_drawn() -> None:
    root = parsed(charts.groups("source", METRICS.by_source, METRICS.accuracy, 20, "film"))
    assert "too few films to say" in texts(root)
    assert len(list(root.iter("circle"))) == 1
    assert f"x · {METRICS.by_source['x'].images}" in texts(root)


def test_a_part_without_an_interval_is_a_point() -> None:
    group = METRICS.by_source["x"].model_copy(update={"accuracy": Interval(value=0.5)})
    root = parsed(charts.groups("source", {"only": group}, Interval(value=None), 20, "film"))
    assert len(list(root.iter("circle"))) == 1


def test_training_is_drawn_however_short_it_was() -> None:
    two = charts.history("loss", {"training": [(1, 0.9), (2, 0.5)], "validation": [(1, 1.0), (2, 0.8)]}, 2)
    assert "training from 0.900 to 0.500" in parsed(two).attrib["aria-label"]
    parsed(charts.history("loss", {"validation": [(1, 0.0)]}, 1))
    parsed(charts.history("accuracy", {"validation": [(1, 0.4)]}, None))


def test_grey_values_end_where_those_between_black_and_white_end() -> None:
    values = [0.5, 0.0, *[0.01] * 60, 0.0, 0.4]
    root = parsed(charts.grey_values({"normal": values, "covid": values}, ["normal", "pneumonia", "covid"]))
    lines = [path for path in root.iter("path") if path.attrib["class"].startswith("line")]
    assert [line.attrib["class"] for line in lines] == ["line c0 d0", "line c2 d2"]
    parsed(charts.grey_values({}, []))


def test_a_curve_needs_both_kinds_of_films() -> None:
    sample = Sample(SCORED.targets[:1], SCORED.probabilities[:1], "softmax")
    weights = patient_weights(["a"], 5, 0)
    curves = label_curves(sample, weights, 0, sample.figures(weights))
    assert curves.roc == ()
    assert math.isclose(curves.prevalence, float(SCORED.targets[0] == 0))
