"""A study without what says whose it is, for those who see to the machines and not to the patients."""

from typing import Any

NAMING = ("patient_name", "patient_id", "accession_number", "study_description")
"""What names a patient, or is free text that may."""
WORD = "withheld"
"""What a page shows in its place; the JSON interface says null."""


def withheld(document: dict[str, Any], mark: str | None) -> dict[str, Any]:
    """Return a study document with `mark` wherever a patient was named; UIDs stay, and reasons, which name nobody."""
    shown = document | dict.fromkeys(NAMING, mark)
    if "series" in document:
        shown["series"] = [series | {"series_description": mark} for series in document["series"]]
    if "instances_detail" in document:
        shown["instances_detail"] = [instance | {"patient_id": mark} for instance in document["instances_detail"]]
    return shown
