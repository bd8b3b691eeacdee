"""What the models' README says of hospitals never seen is what was measured."""

import json
from pathlib import Path

MODELS = Path(__file__).parents[2] / "models"


def test_every_row_is_the_measured_one() -> None:
    found = json.loads((MODELS / "leave_one_source_out.json").read_text(encoding="utf-8"))
    page = (MODELS / "README.md").read_text(encoding="utf-8")
    assert len(found["folds"]) == 5
    for fold in found["folds"]:
        right = ", ".join(f"{label} {good}/{films}" for label, (good, films) in fold["right"].items())
        auroc = "-" if fold["macro_auroc"] is None else f"{fold['macro_auroc']:.3f}"
        assert f"| {fold['name']} | {fold['films']} | {fold['accuracy']:.3f} | {auroc} | {right} |" in page
    assert f"--epochs {found['hyper_parameters']['epochs']}`" in page
