"""The report as one HTML file."""

import importlib.metadata
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from models.card import Card, Metrics
from models.training.dataset import UNKNOWN, Dataset
from models.training.details import SMALL, Details
from models.training.evaluate import LEAST_OF_EACH, Scored
from models.training.figures import BINS
from models.training.report import charts
from models.training.report.films import Sheet, grey_rows
from models.training.report.history import History
from models.training.report.words import counted, figure, glance, span

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    `grey` is the density of grey values by label, from `GreyValues`; `sheet` is None where films are left out.
    """

    card: Card
    dataset: Dataset
    scored: Scored
    metrics: Metrics
    details: Details
    history: History
    grey: dict[str, list[float]]
    sheet: Sheet | None
    libraries: dict[str, str]
    evaluated_at: datetime

    @property
    def word(self) -> str:
        """What an image is called: a film, or a slice of CT, which alone is shown in a window."""
        return "slice" if self.card.window else "film"


def render(report: Report) -> str:
    """Lay the page out, as HTML that is whole by itself.

    Where there is a sheet it holds patients' films: whoever writes it into a file keeps others from reading it.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(figure=figure, span=span, counted=counted)
    # Our own style sheet, which may stand in the page as it is.
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    return made.get_template("report.html").render(style=style, **_values(report))


def _values(report: Report) -> dict[str, Any]:
    card, metrics, details = report.card, report.metrics, report.details
    parts = (
        ("source", metrics.by_source, details.by_source),
        ("age group", metrics.by_age_group, details.by_age_group),
    )
    return {
        "card": card,
        "metrics": metrics,
        "details": details,
        "history": report.history,
        "sheet": report.sheet,
        "libraries": report.libraries,
        "program": importlib.metadata.version("firstread"),
        "evaluated_at": report.evaluated_at.astimezone(UTC),
        "notes": report.dataset.notes,
        "glance": glance(card, report.scored, metrics, details, report.word),
        "labels": [label.name for label in card.labels],
        "word": report.word,
        "origins": _origins(report),
        "grey": grey_rows(report.grey),
        "parts": [(what, groups, figures) for what, groups, figures in parts if set(groups) != {UNKNOWN}],
        "unsaid": [what for what, groups, _ in parts if set(groups) == {UNKNOWN}],
        "small": SMALL,
        "least": LEAST_OF_EACH,
        "bins": BINS,
        "look": charts.look,
        "charts": _charts(report),
    }


def _charts(report: Report) -> dict[str, Any]:
    """Draw every picture that the films allow."""
    card, metrics, details = report.card, report.metrics, report.details
    order, word = [label.name for label in card.labels], report.word
    drawn = {name: curves for name, curves in details.curves.items() if curves.roc}
    return {
        "confusion": charts.confusion(card, metrics.confusion),
        "roc": {
            name: charts.roc(name, order.index(name), curves, metrics.labels[name].auroc)
            for name, curves in drawn.items()
        },
        "precision_recall": {
            name: charts.precision_recall(name, order.index(name), curves) for name, curves in drawn.items()
        },
        "by_threshold": {
            point.label: charts.by_threshold(point.label, point.threshold, details.curves[point.label], word)
            for point in details.operating_points
            if point.asked is None and point.label in drawn
        },
        "reliability": charts.reliability(details.reliability, word),
        "sureness": charts.sureness(details.reliability, word),
        "source": charts.groups("source", metrics.by_source, metrics.accuracy, SMALL, word),
        "age group": charts.groups("age group", metrics.by_age_group, metrics.accuracy, SMALL, word),
        "history": {
            what: charts.history(what, series, report.history.best) for what, series in report.history.curves.items()
        },
        "grey": charts.grey_values(report.grey, order),
    }


def _origins(report: Report) -> list[dict[str, Any]]:
    """Count the films of each source by label, and their patients."""
    films = report.scored.films
    counts = Counter((film.source, film.label) for film in films)
    patients = Counter(source for source, _ in {(film.source, film.patient) for film in films})
    labels = [label.name for label in report.card.labels]
    return [
        {"source": source, "patients": patients[source], "films": [counts[source, label] for label in labels]}
        for source in sorted(patients)
    ]
