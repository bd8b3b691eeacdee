"""ONNX Runtime on the CPU: no TensorFlow, no Keras; started in a tenth of the time, in a tenth of the memory."""

import hashlib
from typing import Any, Self

from models.engines.onnx_file import check_onnx
from models.errors import ModelError, PackageError
from models.preprocessing import FloatArray
from models.registry import Package


class OnnxEngine:
    """A network as an ONNX Runtime session.

    Parameters
    ----------
    session
        onnxruntime.InferenceSession of one input and one output.
    """

    name = "onnx"
    device = "cpu"
    buckets: tuple[int, ...] = ()

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name

    @classmethod
    def load(cls, package: Package, *, threads: int = 1) -> Self:
        """Load a package's ONNX file: what was hashed and looked through is what is run, read once.

        Parameters
        ----------
        threads
            Of one operator. They do not spin while they wait: several workers of one thread each compute more than one
            worker of several.

        Raises
        ------
        PackageError
            If the file is not the card's, holds what it may not, or the network's shape is not the card's.
        ModelError
            If the card names no ONNX file, or ONNX Runtime is not installed.
        """
        card, path = package.card, package.onnx
        if card.onnx is None:
            raise ModelError(
                f"{card.identifier} has no ONNX file; `firstread models convert {card.identifier}` makes one"
            )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PackageError(f"{path}: {error.strerror}") from None
        found = hashlib.sha256(content).hexdigest()
        if found != card.onnx.sha256:
            raise PackageError(
                f"{path}: SHA-256 {found} is not the card's {card.onnx.sha256}; the file was changed or damaged, so it"
                " is not loaded: install the package again"
            )
        return cls(open_session(content, package, threads=threads))

    def outputs(self, batch: FloatArray) -> FloatArray:
        """Compute a batch of any size."""
        result: FloatArray = self._session.run(None, {self._input: batch})[0]
        return result


def open_session(content: bytes, package: Package, *, threads: int) -> Any:
    """Look through an ONNX file and make a session of it.

    Every graph optimisation is on, in one fixed order for a machine and a version of ONNX Runtime; sums are added up in
    the same order each time.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    PackageError
        If the file holds what it may not, ONNX Runtime cannot load it, or the network's shape is not the card's.
    ModelError
        If ONNX Runtime is not installed.
    """
    path, card = package.onnx, package.card
    check_onnx(content, path)
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors have no common class but this one
        raise PackageError(f"{path}: ONNX Runtime cannot load it: {error}") from None
    sides = [*session.get_inputs(), *session.get_outputs()]
    wanted = [[card.input.rows, card.input.columns, card.input.channels], [card.units]]
    if [(side.type, side.shape[1:]) for side in sides] != [("tensor(float)", shape) for shape in wanted] or any(
        isinstance(side.shape[0], int) for side in sides
    ):
        found = " to ".join(f"{side.type} {side.shape}" for side in sides)
        raise PackageError(f"{path}: the network goes from {found}; the card says (N, {wanted[0]}) to (N, {wanted[1]})")
    return session


def load_runtime() -> Any:
    """Import ONNX Runtime.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModelError(f"{error.name} is not installed; install firstread[onnx]") from None
    return onnxruntime
