"""The table of models/ENGINES.md is what the comparison measured, row for row."""

import json
from pathlib import Path

from models.training.recipes import TRAINING_RECIPES
from tests.bench.compare_models import ENTRIES, RESULT, table

PAGE = Path(__file__).parents[2] / "models" / "ENGINES.md"


def test_the_readme_shows_the_comparison() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition("<!-- comparison -->")[2].partition("<!-- end of comparison")[0]
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert rows == table(json.loads(RESULT.read_text(encoding="utf-8"))).splitlines()


def test_rows_stand_in_their_order_and_every_recipe_has_its_command() -> None:
    found = [row["recipe"] for row in json.loads(RESULT.read_text(encoding="utf-8"))["models"]]
    planned = [entry.recipe for entry in ENTRIES]
    assert found == [recipe for recipe in planned if recipe in found]
    assert {"chest_xray_triage", "chest_ct_covid"} <= set(found)
    assert set(planned) == set(TRAINING_RECIPES)


def test_every_row_is_whole_and_quotes_its_recipe() -> None:
    for row in json.loads(RESULT.read_text(encoding="utf-8"))["models"]:
        assert 0 <= row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"] <= 1
        assert row["parameters"] > 0
        assert row["milliseconds"] > 0
        assert row["published"] == TRAINING_RECIPES[row["recipe"]].published
