"""A database as a busy morning leaves it: a study of every state, for the read model and the worklist."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worker.database import (
    Database,
    Delivery,
    Heartbeat,
    Instance,
    ModelVersion,
    Prediction,
    Report,
    Series,
    Study,
    WorkItem,
)

NOW = datetime.now(UTC).replace(microsecond=0)
RANK = {"immediate": 0, "urgent": 1, "failed": 2, "routine": 3, "pending": 4, "none": 5}
CODES = {
    "pneumonia": ("233604007", "Pneumonia"),
    "covid": ("840539006", "COVID-19"),
    "tuberculosis": ("56717001", "Tuberculosis"),
}


def uid(number: int) -> str:
    """The Study Instance UID of the nth study."""
    return f"1.2.826.0.1.3680043.8.498.{number}"


def findings(study: int, **probabilities: float) -> list[dict[str, Any]]:
    """The roll-up as triage writes it."""
    return [
        {
            "label": label,
            "code": {"scheme": "SCT", "value": CODES[label][0], "meaning": CODES[label][1]},
            "probability": probability,
            "threshold": 0.5,
            "flagged": probability >= 0.5,
            "model": "chest-film",
            "model_version": "1.0.0",
            "sop_instance_uid": f"{uid(study)}.1.1",
        }
        for label, probability in probabilities.items()
    ]


class Rows:
    """Adds studies to a database, one call a study."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.write() as session:
            version = ModelVersion(name="chest-film", version="1.0.0", weights_sha256="e3" * 32, card={})
            session.add(version)
            session.flush()
            self.version_id = version.id

    def study(
        self,
        number: int,
        status: str,
        priority: str = "none",
        *,
        probabilities: dict[str, float] | None = None,
        age: timedelta = timedelta(minutes=5),
        instances: int = 1,
        instance_status: str | None = None,
        deliveries: dict[str, tuple[str, int, str | None]] | None = None,
        generation: int | None = None,
        rank: int | None = None,
        **columns: Any,
    ) -> int:
        """Add a study with its series, instances, predictions, report and deliveries; return its id."""
        at = NOW - age
        done = status in {"complete", "failed"}
        generation = (1 if done else 0) if generation is None else generation
        classes = probabilities if probabilities is not None else {}
        with self.database.write() as session:
            study = Study(
                study_instance_uid=uid(number),
                **{"modality": "DX", "study_description": "Thorax PA"} | columns,
                received_at=at,
                last_received_at=at,
                completed_at=at + timedelta(seconds=4) if done else None,
                ai_status=status,
                priority=priority,
                rank=RANK.get(status if status in {"failed", "pending"} and priority == "none" else priority, 5)
                if rank is None
                else rank,
                generation=generation,
                findings=findings(number, **{k: v for k, v in classes.items() if k in CODES}),
            )
            session.add(study)
            session.flush()
            series = Series(
                study_id=study.id or 0,
                series_instance_uid=f"{uid(number)}.1",
                modality=study.modality,
                series_description=study.study_description,
                body_part_examined="CHEST",
            )
            session.add(series)
            session.flush()
            for place in range(1, instances + 1):
                instance = Instance(
                    study_id=study.id or 0,
                    series_id=series.id or 0,
                    sop_instance_uid=f"{uid(number)}.1.{place}",
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    dataset_sha256=f"{number:032x}{place:032x}",
                    sha256=f"{number:032x}{place:031x}f",
                    size_bytes=8_400_000,
                    calling_ae="XRAY_ROOM_2",
                    received_at=at,
                    spool_name=f"{number}-{place}.dcm",
                    status=instance_status or {"complete": "classified"}.get(status, status),
                    reason="" if done and status == "complete" else columns.get("reason", ""),
                )
                session.add(instance)
                session.flush()
                if classes:
                    session.add(
                        Prediction(
                            instance_id=instance.id or 0,
                            model_version_id=self.version_id or 0,
                            probabilities=classes,
                            thresholds={label: 0.5 for label in classes if label in CODES},
                            flagged=[label for label, p in classes.items() if label in CODES and p >= 0.5],
                            recipe="chest_film",
                            engine="keras",
                            device="CPU",
                            batch_size=4,
                            decode_seconds=0.041,
                            inference_seconds=0.018,
                            created_at=at + timedelta(seconds=2),
                        )
                    )
            for number_of_report in range(1, generation + 1):
                report = Report(
                    study_id=study.id or 0,
                    generation=number_of_report,
                    kind="sr",
                    sop_instance_uid=f"2.25.{number}00{number_of_report}",
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
                    series_instance_uid=f"2.25.{number}000",
                    path=f"{number}-{number_of_report}.dcm",
                    sha256="ab" * 32,
                    evidence_sha256="cd" * 32,
                    created_at=at + timedelta(seconds=4),
                )
                session.add(report)
                session.flush()
                for destination, (state, attempts, error) in (deliveries or {}).items():
                    session.add(
                        Delivery(
                            report_id=report.id or 0,
                            destination=destination,
                            status=state,
                            attempts=attempts,
                            last_error=error,
                        )
                    )
            return study.id or 0


PACS = "PACS@192.0.2.10:104"
DELIVERED = {PACS: ("delivered", 1, None)}


def fill(database: Database) -> Rows:
    """Add a study of every state, in an order that is not the worklist's."""
    rows = Rows(database)
    m = timedelta(minutes=1)
    rows.study(
        1,
        "complete",
        "none",
        age=90 * m,
        patient_id="PID-0001",
        patient_name="QUIET^Quentin",
        accession_number="ACC-1",
        probabilities={"normal": 0.93, "pneumonia": 0.04, "covid": 0.02, "tuberculosis": 0.01},
        deliveries=DELIVERED,
    )
    rows.study(
        2,
        "pending",
        age=1 * m,
        patient_id="PID-0002",
        patient_name="WAITING^Wanda",
        accession_number="ACC-2",
        study_description="Chest AP bedside",
        modality="CR",
    )
    rows.study(
        3,
        "failed",
        age=30 * m,
        patient_id="PID-0003",
        patient_name="BROKEN^Bert",
        accession_number="ACC-3",
        reason="The pixel data ends after 120 of 8388608 bytes: the object was cut off; send it again.",
        deliveries={PACS: ("failed", 3, "A700 refused: out of resources")},
    )
    rows.study(
        4,
        "not_eligible",
        age=20 * m,
        patient_id="PID-0004",
        patient_name="KNEE^Karl",
        accession_number="ACC-4",
        modality="CT",
        study_description="Thorax CT",
        reason="No model for CT is installed.",
    )
    rows.study(
        5,
        "complete",
        "urgent",
        age=12 * m,
        patient_id="PID-0005",
        patient_name="URGENT^Ursula",
        accession_number="ACC-5",
        probabilities={"normal": 0.05, "pneumonia": 0.914, "covid": 0.03, "tuberculosis": 0.006},
        deliveries=DELIVERED | {"ARCHIVE@192.0.2.11:11112": ("pending", 2, "no answer within 10 s")},
        generation=2,
    )
    rows.study(
        6,
        "complete",
        "immediate",
        age=8 * m,
        patient_id="PID-0006",
        patient_name="YAMADA^Tarou=山田^太郎=やまだ^たろう",
        accession_number="ACC-6",
        instances=2,
        probabilities={"normal": 0.01, "pneumonia": 0.07, "covid": 0.0213, "tuberculosis": 0.973},
        deliveries=DELIVERED,
        reason="PatientID differs between objects of this study.",
    )
    rows.study(
        7,
        "complete",
        "routine",
        age=50 * m,
        patient_id="PID-0007",
        patient_name="ROUTINE^Rosa",
        accession_number="ACC-7",
        probabilities={"normal": 0.41, "pneumonia": 0.1, "covid": 0.52, "tuberculosis": 0.004},
        remark="No object says which body part it shows: read as a chest film.",
    )
    rows.study(
        8,
        "complete",
        "urgent",
        age=40 * m,
        patient_id="PID_0%8",
        patient_name="MÜLLER^Änne",
        accession_number="ACC-8",
        probabilities={"normal": 0.2, "pneumonia": 0.63, "covid": 0.58, "tuberculosis": 0.04},
        deliveries=DELIVERED,
    )
    return rows


EXPECTED_ORDER = [uid(number) for number in (6, 8, 5, 3, 7, 2, 1, 4)]
"""Immediate, urgent (oldest first), failed, routine, pending, none (oldest first)."""


def owe_inference(
    database: Database,
    *,
    since: timedelta,
    heard: timedelta | None = None,
    lane: str = "chest-film@1.0.0",
    service: str = "inference host",
) -> None:
    """Owe inference work of a lane for so long; the last heartbeat of a service was so long ago."""
    with database.write() as session:
        session.add(
            WorkItem(
                kind="infer",
                lane=lane,
                subject=f"instance 2 {lane}",
                subject_id=2,
                state="owed",
                not_before=datetime.now(UTC) - since,
                created_at=datetime.now(UTC) - since,
            )
        )
        if heard is not None:
            session.merge(Heartbeat(service=service, at=datetime.now(UTC) - heard))


def draw_previews(directory: Path, ids: range) -> None:
    """Draw something that looks like a film from afar: two lungs, a mediastinum, ribs."""
    directory.mkdir(exist_ok=True)
    y, x = np.mgrid[-1:1:640j, -1:1:512j]
    body = np.exp(-((x / 0.95) ** 6) - (y / 1.2) ** 8) * 170
    for centre in (-0.42, 0.42):
        body -= 120 * np.exp(-(((x - centre) / 0.3) ** 4) - ((y + 0.05) / 0.68) ** 4)
    body += 18 * np.cos((y + 0.35 * x**2) * 26) * np.exp(-((x / 0.8) ** 8))
    body += 70 * np.exp(-(((x - 0.12) / 0.28) ** 2) - ((y - 0.3) / 0.34) ** 2)
    image = Image.fromarray(np.clip(body, 0, 255).astype(np.uint8))
    for number in ids:
        image.save(directory / f"{number}.png")
