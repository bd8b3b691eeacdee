"""Routing: the shipped rules of the contract, and the hospital's own before them."""

from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.support.objects import header_texts
from worker.config import Route
from worker.intake.header_text import Header
from worker.intake.routing import Router

FILM = "chest_xray_triage@1.1.0"
ROUTER = Router((), {"chest_xray_triage": ["1.0.0", "1.1.0"]})


def header(**said: Any) -> Header:
    ds = Dataset()
    for keyword, value in said.items():
        setattr(ds, keyword, value)
    return header_texts(ds)


@pytest.mark.parametrize(
    "attributes",
    [
        {"Modality": "DX", "BodyPartExamined": "CHEST"},
        {"Modality": "CR", "BodyPartExamined": "CHEST PA"},
        {"Modality": "RG", "BodyPartExamined": "THORAX"},
        {"Modality": "DX", "BodyPartExamined": "LUNG", "ViewPosition": "AP"},
        {"Modality": "CR", "StudyDescription": "Chest 2 views"},
        {"Modality": "CR", "BodyPartExamined": "", "SeriesDescription": "thorax ap"},
        {"Modality": "RG", "ProtocolName": "CHEST BED"},
        {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "StudyDescription": "CHEST"},
        {"Modality": "CR"},
        {"Modality": "DX", "StudyDescription": "Routine"},
    ],
)
def test_frontal_chest_films_go_to_the_newest_model(attributes: dict[str, Any]) -> None:
    decision = ROUTER.decide(header(**attributes))
    assert decision.models == (FILM,), decision


def test_a_film_that_says_no_body_part_is_read_and_says_so() -> None:
    assert "nothing says which body part" in ROUTER.decide(header(Modality="CR")).remark
    assert ROUTER.decide(header(Modality="CR", BodyPartExamined="CHEST")).remark == ""


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "LL"}, "lateral view"),
        ({"Modality": "DX", "BodyPartExamined": "CHEST", "PresentationIntentType": "FOR PROCESSING"}, "raw detector"),
        ({"Modality": "DX", "BodyPartExamined": "HAND"}, "BodyPartExamined HAND"),
        ({"Modality": "CR", "StudyDescription": "Left knee"}, "another body part"),
        ({"Modality": "RG"}, "no rule"),
        ({"Modality": "MR", "BodyPartExamined": "CHEST"}, "Modality MR"),
        ({"Modality": "CT", "BodyPartExamined": "CHEST"}, "no model installed for it (chest_ct_covid)"),
        ({"Modality": "CT", "BodyPartExamined": "CHEST", "ImageType": ["ORIGINAL", "LOCALIZER"]}, "localizer"),
        ({"Modality": "CT", "BodyPartExamined": "HEART"}, "BodyPartExamined HEART"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "no rule"),
        (
            {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SeriesDescription":
             "CHEST AI triage - NOT FOR DIAGNOSIS"}, "a result of an AI",
        ),
        ({}, "Modality not stated"),
    ],
)  # fmt: skip
def test_everything_else_says_why_not(attributes: dict[str, Any], reason: str) -> None:
    decision = ROUTER.decide(header(**attributes))
    assert decision.models == ()
    assert reason in decision.reason


CT_ROUTER = Router((), {"chest_ct_covid": ["2.0.0"], "chest_xray_triage": ["1.0.0"]})
AXIAL = [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    "attributes",
    [
        {"StudyDescription": "CT Thorax"},
        {"BodyPartExamined": "CHEST", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]},
        {"BodyPartExamined": "CHEST", "ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MPR"]},
        {"BodyPartExamined": "CHEST", "ImageOrientationPatient": AXIAL},
        {"BodyPartExamined": "CHEST", "ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]},
        {"BodyPartExamined": "CHEST", "ImageOrientationPatient": [1, 0, 0, 0, 0.88, -0.47]},  # 28 degrees of tilt
        {"BodyPartExamined": "CHEST", "ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"BodyPartExamined": "ABDOMEN", "StudyDescription": "CT CHEST ABDOMEN PELVIS"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "LOW DOSE 1.0 LUNG"},
        {"BodyPartExamined": "CHEST", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"},
    ],
)
def test_axial_slices_of_a_chest_ct_go_to_the_ct_model(attributes: dict[str, Any]) -> None:
    decision = CT_ROUTER.decide(header(Modality="CT", **attributes))
    assert decision.models == ("chest_ct_covid@2.0.0",), decision


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]}, "a CT localizer"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not axial"),
        ({"ImageOrientationPatient": [0.0589, 0.9983, 0, 0, 0, -1]}, "not axial"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.7, -0.714]}, "not axial"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a secondary capture of a CT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "a secondary capture of a CT"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]}, "as its ImageType says"),
        ({"ImageType": ["DERIVED", "SECONDARY", "", "DOSEINFO"]}, "as its ImageType says"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, "as its ImageType says"),
        ({"SeriesDescription": "Dose Report"}, "a dose report"),
        ({"SeriesDescription": "PreMonitoring"}, "while contrast comes in"),
        ({"SeriesDescription": "SmartPrep Series"}, "while contrast comes in"),
        ({"BodyPartExamined": "HEAD"}, "another body part"),
        ({"BodyPartExamined": "TSPINE", "StudyDescription": "CT THORACIC SPINE"}, "another body part"),
        ({"SeriesDescription": "T-Spine 2.0 bone"}, "a CT of the spine"),
    ],
)
def test_what_a_chest_ct_study_holds_beside_its_axial_slices_says_why_not(
    attributes: dict[str, Any], reason: str
) -> None:
    study = {"Modality": "CT", "BodyPartExamined": "CHEST", "StudyDescription": "CT CHEST"}
    decision = CT_ROUTER.decide(header(**(study | attributes)))
    assert decision.models == ()
    assert reason in decision.reason


def test_a_rule_may_name_a_plane() -> None:
    routes = (Route(name="coronal", when={"ImageOrientationPatient": ("coronal",)}, model="ours@1.0.0"),)
    router = Router(routes, {"ours": ["1.0.0"]})
    assert router.decide(header(Modality="MR", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])).models == ("ours@1.0.0",)
    assert router.decide(header(Modality="MR", ImageOrientationPatient=AXIAL)).models == ()
    assert router.decide(header(Modality="MR")).models == ()


def test_the_hospitals_rules_come_first_and_may_fire_together() -> None:
    routes = (
        Route(name="portable", when={"StationName": ("ICU*",)}, model="icu@1.0.0", also=True),
        Route(name="study", when={"StudyDescription": ("*TRIAL*",)}, not_eligible="a trial: not to be read by an AI"),
    )
    router = Router(routes, {"chest_xray_triage": ["1.0.0"], "icu": ["1.0.0", "1.2.0"]})
    both = router.decide(header(Modality="DX", BodyPartExamined="CHEST", StationName="icu-3"))
    assert both.models == ("icu@1.0.0", "chest_xray_triage@1.0.0")
    assert both.route == "portable, chest-film"
    trial = router.decide(header(Modality="DX", BodyPartExamined="CHEST", StudyDescription="my trial"))
    assert (trial.models, trial.reason) == ((), "a trial: not to be read by an AI")


def test_a_version_that_is_not_installed_is_named() -> None:
    router = Router((Route(name="old", when={}, model="chest_xray_triage@9.9.9"),), {"chest_xray_triage": ["1.0.0"]})
    assert router.decide(header()).reason == "no model installed for it (chest_xray_triage@9.9.9)"
