"""What tests of the pipeline do with one: bright films in, a look at its rows, nothing unaccounted for."""

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from sqlmodel import select

from tests.support.fakes import MODEL, FakeClassifier, FakeReader
from tests.support.objects import film
from worker.pipeline import Pipeline
from worker.reconcile import reconcile


def bright(level: int = 4000, **attributes: Any) -> Dataset:
    image = np.full((16, 16), level, np.uint16)
    image[0, 0] = 4095
    return film(image, **attributes)


def infer(pipeline: Pipeline, classifier: FakeClassifier | None = None) -> None:
    while pipeline.register_arrivals():
        pass
    pipeline.infer(MODEL, classifier or FakeClassifier(), FakeReader())  # type: ignore[arg-type]


def rows(pipeline: Pipeline, table: Any) -> list[Any]:
    with pipeline.database.read() as session:
        return list(session.exec(select(table).order_by(table.id)).all())


def unaccounted(pipeline: Pipeline) -> list[dict[str, str]]:
    done = reconcile(pipeline.database, pipeline.spool, pipeline.reports.reports_dir, verify=True)
    return done.unaccounted
