"""Objects to measure with: films of 2048 x 2048 and slices of 512 x 512, 16 bit, drawn, each with fresh UIDs."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, generate_uid

from tests.faults.scans import Scan
from tests.support.objects import film
from worker.demo.film import Pattern, frontal

SIDES = {"cr": 2048, "ct": 512}


class Loads:
    """Makes objects; the pixels are drawn once."""

    def __init__(self, seed: int = 1) -> None:
        noise = np.random.default_rng(seed)
        self._pixels = {}
        for kind, side in SIDES.items():
            drawn = np.round(frontal(side, 1, Pattern.CLEAR) * 3900) + noise.integers(0, 100, (side, side))
            self._pixels[kind] = drawn.astype(np.uint16)

    def scan(self, kind: str, study: str, series: str, number: int) -> Scan:
        """Make one object of a study."""
        shared = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "InstanceNumber": number}
        pixels = np.roll(self._pixels[kind], number, axis=0)
        if kind == "ct":
            ds = film(
                pixels, SOPClassUID=CTImageStorage, Modality="CT", StudyDescription="CT CHEST", ViewPosition=None,
                PresentationIntentType=None, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0], RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU",
                **shared,
            )  # fmt: skip
        else:
            ds = film(pixels, **shared)
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
        return Scan(str(ds.SOPClassUID), str(ds.SOPInstanceUID), study, buffer.getvalue())

    def study(self, kind: str, objects: int) -> Iterator[Scan]:
        """Make the objects of one study, one after the other."""
        study, series = str(generate_uid(prefix=None)), str(generate_uid(prefix=None))
        for number in range(objects):
            yield self.scan(kind, study, series, number)
