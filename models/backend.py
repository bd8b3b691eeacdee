"""The one door to Keras and TensorFlow: imported when a classifier is first loaded, quietly, with sane settings."""

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
def load_backend() -> tuple[Any, Any]:
    """Import Keras on TensorFlow, once a process.

    On a GPU, memory grows as it is needed (TensorFlow otherwise takes the whole card) and TensorFloat-32 is off, so
    that a probability is the same there as on a CPU within a card's tolerance. TensorFlow's start-up notices are
    silenced; its errors are not. `TF_CPP_MIN_LOG_LEVEL=0` brings all of them back.

    Returns
    -------
    tuple
        The modules `keras` and `tensorflow`.

    Raises
    ------
    ModelError
        If TensorFlow is not installed or Keras runs on another backend.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in {"2", "3"}
    try:
        with _without_notices(quiet):
            import keras
            import tensorflow as tf
    except ModuleNotFoundError as error:
        raise ModelError(f"{error.name} is not installed; install firstread[cpu] or firstread[gpu]") from None
    if keras.backend.backend() != "tensorflow":
        raise ModelError(f"KERAS_BACKEND={keras.backend.backend()}: firstread runs Keras on tensorflow")
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_tensor_float_32_execution(False)
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
        False if TensorFlow has computed in this process already: the number is then fixed as it is.
    """
    _, tf = load_backend()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return False
    return True
