"""Training takes any backend of Keras, serving takes TensorFlow, and what is missing is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TELL = """
import json, os, sys
missing = sys.argv[1:]
sys.modules |= dict.fromkeys(missing)
if pretended := os.environ.get("PRETENDED"):
    import keras
    keras.backend.backend = lambda: pretended
from models.backend import load_backend, load_keras, set_threads
from models.errors import ModelError

def told(what):
    try:
        return str(what())
    except ModelError as error:
        return f"refused: {error}"

print(json.dumps([told(lambda: load_keras().backend.backend()), told(lambda: load_backend()[1].__name__),
                  told(lambda: set_threads(2))]))
"""


def told(*missing: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TELL, *missing],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_another_backend_trains_and_does_not_serve() -> None:
    keras, served, threads = told(PRETENDED="jax")
    assert (keras, threads) == ("jax", "False")
    assert served == "refused: KERAS_BACKEND=jax: firstread trains there, and serves with Keras on tensorflow"


@pytest.mark.parametrize(
    ("backend", "missing", "said"),
    [
        ("tensorflow", "tensorflow", "tensorflow is not installed; install firstread[cpu] or firstread[gpu]"),
        ("jax", "jax", "jax is not installed; it is what KERAS_BACKEND asks for"),
        ("abacus", "jax", "KERAS_BACKEND=abacus: "),
    ],
)
def test_a_backend_that_is_not_there_is_named(backend: str, missing: str, said: str) -> None:
    assert told(missing, KERAS_BACKEND=backend)[0].startswith(f"refused: {said}")
