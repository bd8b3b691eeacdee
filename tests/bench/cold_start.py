"""`python -m tests.bench.cold_start MODEL ENGINE FILE`: ready as a worker is, one film read and classified."""

import sys
from pathlib import Path

import numpy as np

from models.classifier import Classifier
from models.registry import Registry
from tests.bench.preparing import MEMORY_BYTES, SECONDS
from worker.inference.pixels import PixelReader


def main(model: str, engine: str, film: str) -> None:
    """Load, verify and warm the classifier, then classify."""
    classifier = Classifier.load(Registry().find(model), engine=engine)
    classifier.warm_up()
    with PixelReader(seconds=SECONDS, memory_bytes=MEMORY_BYTES) as reader:
        prepared = reader.prepared(Path(film), classifier.card)
    classifier.probabilities(prepared.image[np.newaxis])


if __name__ == "__main__":
    main(*sys.argv[1:])
