"""The report is one file that fetches nothing, says where it cannot say, and shows films only where it may."""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.card import Card, Window
from models.errors import DataError, ImageError
from models.preprocessing import load_picture
from models.training.dataset import UNKNOWN, Dataset
from models.training.details import detail
from models.training.evaluate import Scored, measure
from models.training.report import Report, render
from models.training.report.films import GreyValues, Shown, grey_rows, sheet
from models.training.report.history import History, read_history
from models.training.report.words import glance
from tests.unit.models.training.test_details import CARD, SCORED, films

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What stands in a page; every element is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(card: Card = CARD, scored: Scored = SCORED, **changes: Any) -> Report:
    found = Report(
        card=card,
        dataset=Dataset(Path("films"), ("normal", "pneumonia", "covid"), scored.films, ("Two were left out.",)),
        scored=scored,
        metrics=measure(card, scored, split="test", rounds=20),
        details=detail(card, scored, rounds=20),
        history=History({}, missing="Nobody says how it was trained."),
        grey={"normal": [1 / 64] * 64, "pneumonia": [1 / 64] * 64},
        sheet=None,
        libraries={"numpy": "2"},
        evaluated_at=datetime(2026, 5, 4, 12, tzinfo=UTC),
    )
    return replace(found, **changes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scored], Scored]:
    """Write a grey picture for each film of a set, as bright as its label is far down the list."""
    root = tmp_path_factory.mktemp("films")

    def written(scored: Scored) -> Scored:
        found = []
        for film, target in zip(scored.films, scored.targets, strict=True):
            path = root / film.path.name
            Image.fromarray(np.full((300, 450), 40 + 60 * int(target), np.uint8)).save(path)
            found.append(replace(film, path=path))
        return replace(scored, films=tuple(found))

    return written


def test_it_fetches_nothing_and_runs_nothing(pictures: Callable[[Scored], Scored]) -> None:
    scored = pictures(SCORED.part(np.arange(40)))
    root = scored.films[0].path.parent
    page = render(report(scored=scored, sheet=sheet(CARD, scored, root, load_picture)))
    found = Page(page)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "base", "form"}
    for _, attributes in found.tags:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page
    assert "@import" not in page
    policy = next(tag for tag in found.all("meta") if "http-equiv" in tag)
    assert (policy["content"] or "").startswith("default-src 'none'; img-src data:")


def test_everybody_can_read_it(pictures: Callable[[Scored], Scored]) -> None:
    scored = pictures(SCORED.part(np.arange(40)))
    found = sheet(CARD, scored, scored.films[0].path.parent, load_picture)
    history = History({"loss": {"validation": [(1, 0.5), (2, 0.25)]}}, best=2)
    text = render(report(scored=scored, sheet=found, history=history))
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    drawings = [drawing for drawing in page.all("svg") if drawing.get("role") == "img"]
    assert len(drawings) > 10
    assert all(drawing["aria-label"] for drawing in drawings)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in cell for cell in page.all("th"))
    links = {(link["href"] or "")[1:] for link in page.all("a")}
    assert links <= {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert text.count("How to read this") == text.count('<section class="panel"') - 2  # the model, how it was measured


def test_it_says_what_the_model_is_for_and_what_was_measured() -> None:
    page = render(report())
    for said in (
        CARD.identifier.replace("@", ", version "), "tests", "patients", "200 films of 200 patients", "04 May 2026",
        "Two were left out.", "numpy 2", "20 rounds over patients", CARD.threshold_rule, "Nobody says how it was",
    ):  # fmt: skip
        assert said in page


def test_what_comes_from_the_data_is_never_markup() -> None:
    hostile = "<script>alert(1)</script>"
    scored = replace(SCORED, films=tuple(replace(film, source=hostile) for film in SCORED.films))
    page = render(report(scored=scored, card=CARD.model_copy(update={"title": hostile})))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_small_parts_are_counted_and_nothing_is_said_of_them() -> None:
    page = render(report())
    row = page[page.index('<th scope="row">y</th><td class="number">10<span') :]
    row = row[: row.index("</tr>")]
    assert "too few films to say" in row
    assert " of " in row


def test_thresholds_for_another_sensitivity_are_marked() -> None:
    details = detail(CARD, SCORED, validation=films(CARD, 80, seed=2), sensitivities=[0.95], rounds=10)
    assert "sensitivity 0.95<span" in render(report(details=details))
    assert "sensitivity 0.95<span" not in render(report())


def test_a_slice_is_no_film() -> None:
    window = Window(centre=-600, width=1500)
    page = render(report(CARD.model_copy(update={"window": window})))
    page = page[page.index("<body>") :].replace('="films"', "").replace('="#films"', "")
    assert "200 slices of 200 patients" in page
    assert "film" not in page.lower()


def test_what_nobody_says_is_said_once() -> None:
    scored = replace(SCORED, films=tuple(replace(film, age_group=UNKNOWN) for film in SCORED.films))
    page = render(report(scored=scored))
    assert "does not say of any film which age group it is of" in page
    assert "By age group" not in page
    assert "<h3>By source" in page


def test_films_are_left_out_with_their_names() -> None:
    page = render(report())
    assert "<img" not in page
    assert ".png" not in page
    assert "holds films of patients" not in page


def test_a_report_with_films_says_that_it_stays(pictures: Callable[[Scored], Scored]) -> None:
    scored = pictures(SCORED.part(np.arange(40)))
    found = sheet(CARD, scored, scored.films[0].path.parent, load_picture)
    page = render(report(scored=scored, sheet=found))
    assert "This report holds films of patients. It stays with you" in page
    assert page.count("<img") == len(found.mistakes) + len(found.rights)
    assert found.mistakes[0].file in page


@pytest.mark.parametrize("rows", [np.array([0]), np.flatnonzero(SCORED.targets == 1), np.arange(5)])
def test_few_films_and_films_of_one_label_make_a_report_too(rows: np.ndarray) -> None:
    page = render(report(scored=SCORED.part(rows)))
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", page)


@pytest.mark.parametrize("output", ["sigmoid", "binary"])
def test_every_kind_of_output_makes_a_report(output: str) -> None:
    card = CARD.model_copy(update={"output": output, "labels": CARD.labels[:2]})
    page = render(report(card, films(card, 60)))
    assert ("mean over the labels</dd>" in page) == (output == "sigmoid")


def test_the_surest_mistakes_come_first_and_every_label_has_its_turn(pictures: Callable[[Scored], Scored]) -> None:
    scored = pictures(films(CARD, 150, spread=0.8))
    root = scored.films[0].path.parent
    found = sheet(CARD, scored, root, load_picture)
    chosen = scored.probabilities.argmax(axis=1)
    wrong = chosen != scored.targets
    assert found.wrong == wrong.sum() == len(found.listed)
    assert (len(found.mistakes), len(found.rights)) == (24, 12)
    assert [shown.true for shown in found.rights] == ["normal", "pneumonia", "covid"] * 4
    for label in range(3):
        of_label = [shown for shown in found.mistakes if shown.true == CARD.labels[label].name]
        surest = np.sort(scored.probabilities[wrong & (scored.targets == label)].max(axis=1))[::-1]
        assert [shown.probability for shown in of_label] == pytest.approx(surest[: len(of_label)].tolist())
        assert len(of_label) == 8
    assert all(shown.true != shown.called for shown in found.mistakes)
    assert all(shown.picture is None for shown in found.listed)
    assert Path(found.mistakes[0].file).parent == Path()


def test_the_pictures_are_small_and_are_the_films(pictures: Callable[[Scored], Scored]) -> None:
    scored = pictures(SCORED.part(np.arange(30)))
    shown: Shown = sheet(CARD, scored, scored.films[0].path.parent, load_picture).rights[2]
    assert shown.picture is not None
    kind, _, content = shown.picture.partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (224, 149)
        assert np.asarray(picture).mean() == pytest.approx(40 + 60 * 2, abs=2)


def test_a_film_that_is_gone_is_named(tmp_path: Path) -> None:
    def gone(_path: Path) -> Any:
        raise ImageError("there is no such file")

    with pytest.raises(DataError, match=r"0\.png: there is no such file"):
        sheet(CARD, SCORED.part(np.arange(1)), tmp_path, gone)


def test_grey_values_are_the_mean_over_films_not_over_pixels() -> None:
    grey = GreyValues()
    scored = SCORED.part(np.flatnonzero(SCORED.targets == 1)[:2])
    grey.look(scored.films[0], np.zeros((10, 10), np.float32))
    grey.look(scored.films[1], np.full((100, 100), 255, np.float32))
    density = grey.density(scored, [label.name for label in CARD.labels])
    assert set(density) == {"pneumonia"}
    assert (density["pneumonia"][0], density["pneumonia"][-1]) == (0.5, 0.5)
    row = grey_rows(density)["pneumonia"]
    assert (row["black"], row["white"]) == (0.5, 0.5)
    assert row["mean"] == pytest.approx(127.5, abs=0.1)


def test_the_training_of_a_package_is_read(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    epochs = [
        {"number": number, "train_loss": 1 / number, "val_loss": 1.1 / number, "val_accuracy": 0.9, "seconds": 3}
        for number in (1, 2, 3)
    ]
    (tmp_path / "evaluation" / "training.json").write_text(json.dumps({"best_epoch": 2, "epochs": epochs}))
    history = read_history(tmp_path)
    assert (history.best, history.missing) == (2, None)
    assert history.curves["loss"]["training"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert list(history.curves["accuracy"]) == ["validation"]
    assert history.columns() == ["loss, training", "loss, validation", "accuracy, validation"]
    assert history.rows()[1] == (2, {"loss, training": 0.5, "loss, validation": 0.55, "accuracy, validation": 0.9})
    page = render(report(history=history))
    assert "epoch 2 was kept" in page


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"epochs": 3}', '{"epochs": [1]}', '{"epochs": [{"number": 1, "val_loss": NaN}]}', "\xff"]
)
def test_a_package_trained_elsewhere_says_so(text: str, tmp_path: Path) -> None:
    assert "does not say how it was trained" in (read_history(tmp_path).missing or "")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "training.json").write_text(text, encoding="latin-1")
    assert "training.json" in (read_history(tmp_path).missing or "")


def test_the_glance_says_what_is_to_be_seen_first() -> None:
    from_one = [replace(film, source="abc"[i]) for film, i in zip(SCORED.films, SCORED.targets, strict=True)]
    scored = replace(SCORED, films=tuple(from_one))
    said = "\n".join(
        glance(CARD, scored, measure(CARD, scored, split="test", rounds=10), detail(CARD, scored, rounds=10), "film")
    )
    assert "200 films of 200 patients" in said
    assert "At the card's threshold of 0.4, pneumonia was flagged in" in said
    assert "By source, the share right goes from" in said
    assert (
        "every normal film comes from a and every pneumonia film comes from b and every covid film comes from c" in said
    )
    assert "Probabilities are off" in said


def test_the_glance_says_nothing_that_is_not_so() -> None:
    scored = SCORED.part(np.flatnonzero(SCORED.targets == 0)[:12])
    said = "\n".join(
        glance(CARD, scored, measure(CARD, scored, split="val", rounds=10), detail(CARD, scored, rounds=10), "film")
    )
    assert "No film here has pneumonia; it was flagged in" in said
    assert "By source" not in said
    assert "comes from" not in said
