"""What a report says, as plain values: the findings of a study and the instances they come from."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

Priority = Literal["immediate", "urgent", "routine", "none"]
Iod = Literal["comprehensive_3d", "comprehensive", "enhanced"]


@dataclass(frozen=True)
class Algorithm:
    """A model version: its name, its version and the SHA-256 of its weights, hexadecimal."""

    name: str
    version: str
    weights_sha256: str


@dataclass(frozen=True)
class ReportedFinding:
    """One condition that was looked for, flagged or not.

    Attributes
    ----------
    label
        The model's name of the condition.
    code_scheme, code_value, code_meaning
        Its code, for example SCT 233604007 Pneumonia; a label without code (empty value) gets a private one.
    probability, threshold
        0 to 1: the roll-up of the study, and the operating threshold it was compared with.
    flagged
        Whether it is reported as detected.
    sop_instance_uid
        The instance the probability comes from, the highest where it is a mean; one of the study's evidence.
    algorithm
        What computed it.
    rollup
        Of what the probability is a mean, in words; empty where it is one instance's own.
    """

    label: str
    code_scheme: str
    code_value: str
    code_meaning: str
    probability: float
    threshold: float
    flagged: bool
    sop_instance_uid: str
    algorithm: Algorithm
    rollup: str = ""


@dataclass(frozen=True)
class Evidence:
    """An instance the report refers to, and what became of it.

    `header` is its data set without pixels, or the file to read that from; `reason` says why it failed.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    status: Literal["classified", "failed"]
    reason: str
    header: Dataset | Path = field(repr=False)


@dataclass(frozen=True)
class StudyResult:
    """The result of a study, in one generation of its report.

    Attributes
    ----------
    study_instance_uid
        As the source says, or the stand-in that was made for it.
    generation
        1 for the first report; a late instance makes the next, which names its `predecessor`.
    created_at
        When the result was complete; needs a time zone. Every time in the report is this one.
    predecessor
        SOP Class, SOP Instance and Series Instance UID of the report that this one supersedes.
    algorithms
        What ran or was to run on the study.
    iod
        The kind of SR document.
    remarks
        Sentences to be read with the result: a stand-in UID, instances that disagree about the patient.
    """

    study_instance_uid: str
    generation: int
    priority: Priority
    findings: tuple[ReportedFinding, ...]
    evidence: tuple[Evidence, ...]
    created_at: datetime
    predecessor: tuple[str, str, str] | None
    algorithms: tuple[Algorithm, ...]
    iod: Iod = "comprehensive_3d"
    remarks: tuple[str, ...] = ()
