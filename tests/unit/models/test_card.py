"""The card refuses what would make a flag mean something else than it says."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.card import Card, load_card
from models.errors import PackageError

FINDING: dict[str, Any] = {
    "name": "covid",
    "finding": True,
    "code": {"scheme": "SCT", "value": "840539006", "meaning": "COVID-19"},
    "threshold": 0.5,
    "triage": [{"at_least": 0.5, "priority": "urgent"}],
}
VALUES: dict[str, Any] = {
    "name": "chest",
    "version": "1.2.3",
    "title": "Chest",
    "input": {"rows": 224, "columns": 224, "channels": 1},
    "recipe": "chest_xray_triage",
    "frame_policy": "first",
    "output": "softmax",
    "labels": [{"name": "normal", "finding": False}, FINDING],
    "rollup": "max",
    "triage_rule": "last step reached",
    "threshold_rule": "by hand",
    "tolerance": 0.001,
    "weights_sha256": "a" * 64,
    "golden_sha256": "b" * 64,
    "intended_use": "tests",
    "not_for": ["patients"],
}


def card(**changes: Any) -> Card:
    return Card.model_validate(VALUES | changes)


def label(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "normal", "finding": False}, FINDING | changes]


def test_a_card_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(card().to_json(), encoding="utf-8")
    assert load_card(path) == card()


def test_a_finding_is_flagged_at_its_threshold_and_not_below() -> None:
    assert card().flagged({"normal": 0.99, "covid": 0.5}) == ["covid"]
    assert card().flagged({"normal": 0.99, "covid": 0.4999}) == []


def test_the_priority_is_that_of_the_last_step_reached() -> None:
    steps = [{"at_least": 0.5, "priority": "routine"}, {"at_least": 0.9, "priority": "immediate"}]
    normal, covid = card(labels=label(triage=steps)).labels
    assert [covid.priority(p) for p in (0.49, 0.5, 0.89, 0.9)] == [None, "routine", "routine", "immediate"]
    assert normal.priority(1.0) is None


def test_a_card_names_the_hounsfield_window_that_a_ct_is_shown_in(tmp_path: Path) -> None:
    assert card().window is None
    lung = card(window={"centre": -600, "width": 1500})
    assert (lung.window.centre, lung.window.width, str(lung.window)) == (-600, 1500, "centre -600, width 1500 HU")
    path = tmp_path / "card.json"
    path.write_text(lung.to_json(), encoding="utf-8")
    assert load_card(path) == lung
    for wrong in ({"centre": -600, "width": 0}, {"centre": -9000, "width": 10}, {"centre": 40}):
        with pytest.raises(ValidationError, match="window"):
            card(window=wrong)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "../up"}, "a name is"),
        ({"version": "1.0"}, "MAJOR.MINOR.PATCH"),
        ({"version": "01.0.0"}, "MAJOR.MINOR.PATCH"),
        ({"recipe": "no_such"}, "chest_xray_triage"),
        ({"labels": label(code=None)}, "needs a code"),
        ({"labels": label(threshold=None)}, "needs a code, a threshold"),
        ({"labels": label(triage=[])}, "triage step"),
        ({"labels": label(threshold=0.0)}, "between 0 and 1"),
        ({"labels": label(triage=[{"at_least": 0.6, "priority": "urgent"}])}, "begins at its threshold"),
        (
            {
                "labels": label(
                    triage=[{"at_least": 0.5, "priority": "urgent"}, {"at_least": 0.9, "priority": "routine"}]
                )
            },
            "rise in probability and in priority",
        ),
        ({"labels": [{**FINDING, "name": "normal"}, FINDING]}, "never a finding"),
        ({"labels": [{"name": "normal", "finding": False, "threshold": 0.5}, FINDING]}, "is no finding"),
        ({"labels": [FINDING, FINDING]}, "twice"),
        ({"labels": [{"name": "normal", "finding": False}]}, "never flag anything"),
        ({"labels": [FINDING]}, "softmax over one label"),
        ({"weights_sha256": "A" * 64}, "weights_sha256"),
        ({"tolerance": 0.5}, "tolerance"),
        ({"temperature": 0}, "temperature"),
        ({"surprise": 1}, "surprise"),
        ({"not_for": []}, "not_for"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        card(**changes)


def test_a_bad_file_names_each_field(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps({**VALUES, "version": "1", "rollup": "mean"}))
    with pytest.raises(PackageError, match=r"version: .*MAJOR.*rollup: "):
        load_card(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"tolerance": NaN}'])
def test_a_file_that_is_no_card(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"card\.json"):
        load_card(path)


def test_a_missing_or_huge_card(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="No such file"):
        load_card(tmp_path / "card.json")
    (tmp_path / "card.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(PackageError, match="more than"):
        load_card(tmp_path / "card.json")


def test_a_binary_network_has_what_is_no_finding_first_and_the_finding_second() -> None:
    assert card(output="binary").units == 1
    with pytest.raises(ValidationError, match="a binary network has two labels"):
        card(output="binary", labels=VALUES["labels"][::-1])
    with pytest.raises(ValidationError, match="a binary network has two labels"):
        card(output="binary", labels=[FINDING])


ONNX = {
    "sha256": "c" * 64, "weights_sha256": "a" * 64, "exporter": "tf2onnx", "runtime": "onnxruntime", "opset": 17,
    "difference": 1e-7, "inputs": 36, "batch_invariant": True,
}  # fmt: skip


def test_a_card_of_before_has_no_onnx_file_and_one_of_now_comes_back(tmp_path: Path) -> None:
    assert card().onnx is None
    (tmp_path / "card.json").write_text(card(onnx=ONNX).to_json())
    assert load_card(tmp_path / "card.json").onnx == card(onnx=ONNX).onnx


def test_an_onnx_file_of_other_weights_is_not_this_models() -> None:
    with pytest.raises(ValidationError, match="made of other weights"):
        card(onnx=ONNX, weights_sha256="f" * 64)


MIXED = {
    "weights_sha256": "a" * 64, "difference": 2e-4, "inputs": 36, "device": "gpu", "verified_with": "keras, a GPU",
}  # fmt: skip


def test_leave_for_mixed_precision_is_of_these_weights(tmp_path: Path) -> None:
    assert card().mixed_precision is None
    (tmp_path / "card.json").write_text(card(mixed_precision=MIXED).to_json())
    assert load_card(tmp_path / "card.json").mixed_precision == card(mixed_precision=MIXED).mixed_precision
    with pytest.raises(ValidationError, match="compared for other weights"):
        card(mixed_precision=MIXED, weights_sha256="f" * 64)
