"""What `bench inference` computes: shipped packages, and networks as published, their weights drawn at random.

What a network costs depends on its layers alone, so the weights of those that are not shipped need no training.
"""

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from models.backend import keras_arrays, load_keras
from models.card import Card
from models.classifier import Classifier
from models.conversion import convert
from models.engines.export import export
from models.engines.keras import KerasEngine
from models.engines.onnx import OnnxEngine, load_runtime, open_session
from models.own import TODO, pack_network
from models.registry import Package, Registry
from models.template import card_template
from models.training.recipes import TRAINING_RECIPES

UNKNOWN = "0" * 64


class Network:
    """A network with its card; all of it is made when it is first asked for, once.

    Parameters
    ----------
    load
        Gives the classifier on `keras` or `onnx`; raises a `ModelError` where that cannot be had.
    onnx
        Gives the bytes of the ONNX file; likewise.
    """

    def __init__(self, card: Card, load: Callable[[str], Classifier], onnx: Callable[[], bytes]) -> None:
        self.card = card
        self.load = cache(load)
        self.session = cache(self._session)
        self._onnx = onnx

    def _session(self, threads: int) -> Any:
        """Make an ONNX Runtime session of the file and of nothing of ours; `threads` 0: one a core.

        They do not spin while they wait, or they would take the core of whoever is measured next.

        Raises
        ------
        ModelError
            If ONNX Runtime is not installed, or there is no file.
        """
        runtime = load_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return runtime.InferenceSession(self._onnx(), options, providers=["CPUExecutionProvider"])


def packaged(package: Package) -> Network:
    """Take a package as it is served."""
    return Network(package.card, lambda engine: Classifier.load(package, engine=engine), package.onnx.read_bytes)


def published(recipe: str) -> Network:
    """Take a network as published."""
    values = json.loads(card_template(recipe)) | {
        "name": recipe, "temperature": 1.3, "weights_sha256": UNKNOWN, "golden_sha256": UNKNOWN
    }  # fmt: skip
    package = Package(Path(tempfile.gettempdir()) / recipe, Card.model_validate(values))
    built = cache(lambda: build_published(recipe))

    @cache
    def content() -> bytes:
        return export(built())

    def load(engine: str) -> Classifier:
        if engine == "keras":
            return Classifier(package, KerasEngine(built()))
        return Classifier(package, OnnxEngine(open_session(content(), package, threads=1)))

    return Network(package.card, load, content)


def build_published(recipe: str) -> Any:
    """Build a network as published, on the backend at hand, its weights drawn from a fixed seed."""
    plan = TRAINING_RECIPES[recipe]
    load_keras().utils.set_random_seed(2)
    return plan.build(plan.input.rows, plan.input.columns, plan.input.channels, plan.units, None)


def is_published(model: str) -> bool:
    """Say whether a model is known as published and not installed."""
    return model in TRAINING_RECIPES and model not in {package.card.name for package in Registry().packages()}


def pack_published(recipe: str, folder: Path) -> tuple[Package, int]:
    """Pack a network as published, its weights drawn at random; return the package and how many weights it has."""
    network = build_published(recipe)
    with tempfile.TemporaryDirectory() as name:
        archive, card = Path(name) / "network.keras", Path(name) / "card.json"
        with keras_arrays():
            network.save(archive)
        template = card_template(recipe).replace(TODO, "Of random weights").replace('"my_model"', json.dumps(recipe))
        card.write_text(template)
        return pack_network(archive, card, folder), network.count_params()


def write_published(recipe: str, models_dir: Path) -> Package:
    """Write a package of a network as published, with its ONNX file."""
    return convert(pack_published(recipe, models_dir)[0])
