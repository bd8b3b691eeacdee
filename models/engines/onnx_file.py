"""What an ONNX file may hold, looked at before ONNX Runtime sees it.

As with a `.keras` archive, the card's SHA-256 says that a file is the one that was packed, not that whoever packed it
meant well. An ONNX file can point to other files for its weights (CVE-2022-25882, CVE-2024-27318), name operators of
somebody's own library, and hold loops without end. A network of plain layers has none of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import ModelError, PackageError

STANDARD = frozenset({"", "ai.onnx"})
"""Names of the standard's operator set."""


def check_onnx(content: bytes, path: Path) -> None:
    """Refuse an ONNX file that holds anything but standard operators and their weights.

    Parameters
    ----------
    content
        Of the file.
    path
        Where it was read, for the words.

    Raises
    ------
    PackageError
        Naming what is in the file and may not be.
    ModelError
        If the package `onnx`, which reads the file, is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise ModelError(f"{error.name} is not installed; install firstread[onnx]") from None
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise PackageError(f"{path}: this is no ONNX file that can be read: {error}") from None
    if model.functions:
        raise PackageError(f"{path}: defines an operator of its own, {model.functions[0].name}")
    for node in model.graph.node:
        if node.domain not in STANDARD:
            raise PackageError(f"{path}: names the operator {node.domain}.{node.op_type}, which is not the standard's")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise PackageError(f"{path}: {node.op_type} holds a graph of its own; a network of layers has none")
    for tensor in _tensors(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise PackageError(f"{path}: the weight {tensor.name or '?'} lies in another file")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
