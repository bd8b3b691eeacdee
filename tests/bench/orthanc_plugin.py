"""What a site writes that has Orthanc and a model: its Python plugin classifies each instance as it is stored.

Orthanc runs this file in its own interpreter (same minor version of Python as ours); `systems.OrthancWithPlugin` says
in the environment where the packages are, which model, how it is asked, and where to write when a result was committed.
Decoding and preparing are ours, the faster way: what is compared is what stands around them.
"""

import json
import os
import site
import sys
import time
from pathlib import Path

for folder in json.loads(os.environ["BENCH_PACKAGES"]):
    site.addsitedir(folder)
sys.path.insert(0, os.environ["BENCH_ROOT"])

import numpy as np  # noqa: E402 - its place is known only now
import orthanc  # noqa: E402

from models.classifier import Classifier  # noqa: E402
from models.registry import Registry  # noqa: E402
from tests.bench.preparing import in_process  # noqa: E402

RESULT = 1024
"""The first number of metadata that is a user's own."""


class Plugin:
    """The classifier, warm."""

    def __init__(self) -> None:
        way, _, engine = os.environ["BENCH_WAY"].partition(":")
        registry = Registry(Path(os.environ["BENCH_MODELS_DIR"]))
        self.classifier = Classifier.load(registry.find(os.environ["BENCH_MODEL"]), engine=engine)
        self.predicts = way == "predict"
        self.labels = [label.name for label in self.classifier.card.labels]
        self.classifier.warm_up()
        self.scores(self.classifier.prepare(np.zeros((64, 64), np.float32)))

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Ask the network about one image."""
        if self.predicts:
            return np.asarray(self.classifier.network.predict(image[np.newaxis], verbose=0))[0]
        return self.classifier.probabilities(image[np.newaxis])[0]

    def stored(self, dicom: "orthanc.DicomInstance", instance_id: str) -> None:
        """Classify, keep the result with the instance, and write down when that was."""
        file = os.memfd_create("instance")
        try:
            os.write(file, dicom.GetInstanceData())
            image = in_process(f"/proc/self/fd/{file}", self.classifier.card)
        finally:
            os.close(file)
        scores = self.scores(image)
        found = dict(zip(self.labels, map(float, scores), strict=False))  # a sigmoid has fewer outputs than labels
        orthanc.RestApiPut(f"/instances/{instance_id}/metadata/{RESULT}", json.dumps(found))
        moment = time.perf_counter()
        uid = json.loads(dicom.GetInstanceSimplifiedJson())["SOPInstanceUID"]
        with open(os.environ["BENCH_RESULTS"], "a") as results:  # noqa: PTH123 - a path from the environment
            results.write(f"{uid} {moment}\n")


orthanc.RegisterOnStoredInstanceCallback(Plugin().stored)
