"""The one door to Keras and its backend: imported when a classifier is first loaded, quietly, with sane settings."""

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from models.errors import ModelError

_NOTICE = re.compile(rb"I\d{4} |WARNING: All log messages before absl::|To enable the following instructions:")
"""Lines of TensorFlow's start-up that are no news: what its build can do, and that it does it."""


@cache
def load_keras() -> Any:
    """Import Keras on the backend that KERAS_BACKEND names, TensorFlow where it names none, once a process.

    This is the door for building and training networks, which any backend can do: `KERAS_BACKEND=jax` or `torch`, where
    those are installed. On a GPU, TensorFlow takes memory as it is needed (otherwise the whole card) and TensorFloat-32
    is off, so that a probability is the same there as on a CPU within a card's tolerance. TensorFlow's start-up notices
    are silenced; its errors are not. `TF_CPP_MIN_LOG_LEVEL=0` brings all of them back.

    Returns
    -------
    module
        `keras`.

    Raises
    ------
    ModelError
        If the backend is not installed, or is none.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in {"2", "3"}
    try:
        with _without_notices(quiet):
            import keras
    except ModuleNotFoundError as error:
        remedy = (
            "install firstread[cpu] or firstread[gpu]"
            if os.environ["KERAS_BACKEND"] == "tensorflow"
            else "it is what KERAS_BACKEND asks for"
        )
        missing = (error.name or "a module").partition(".")[0]
        raise ModelError(f"{missing} is not installed; {remedy}") from None
    except ValueError as error:  # what Keras raises for a name that is no backend
        raise ModelError(f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}: {error}") from None
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_tensor_float_32_execution(False)
    return keras


def load_backend() -> tuple[Any, Any]:
    """Import Keras on TensorFlow, which is what serves, once a process.

    Returns
    -------
    tuple
        The modules `keras` and `tensorflow`.

    Raises
    ------
    ModelError
        If TensorFlow is not installed or Keras runs on another backend.
    """
    keras = load_keras()
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"KERAS_BACKEND={keras.backend.backend()}: firstread trains there, and serves with Keras on tensorflow"
        )
    import tensorflow as tf

    return keras, tf


@contextmanager
def _without_notices(quiet: bool) -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and pass on what is no notice.

    TensorFlow's native code writes its first notices before it reads any setting of its log level.
    """
    if not quiet:
        yield
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error: nothing is shown anyway
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _NOTICE.match(line):
                    os.write(2, line)


@contextmanager
def keras_arrays() -> Iterator[None]:
    """Hush one complaint of NumPy 2 about how Keras takes weights out of TensorFlow variables.

    TensorFlow 2.21 does not know the `copy` argument of `__array__`; the values are right. For saving and copying
    weights in a single thread; never on the path of a scan.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        yield


def set_threads(threads: int) -> bool:
    """Let one operation use so many CPU threads.

    Returns
    -------
    bool
        False if the number is fixed as it is: TensorFlow has computed in this process already, or another backend does.
    """
    if load_keras().backend.backend() != "tensorflow":
        return False
    _, tf = load_backend()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return False
    return True
