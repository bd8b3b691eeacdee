"""An ONNX file holds standard operators and their weights; whatever else it holds, it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.engines.onnx_file import check_onnx
from models.errors import PackageError


@pytest.fixture
def plain() -> Any:
    """A network of one operator with one weight."""
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("image", "out")]
    graph = helper.make_graph([helper.make_node("MatMul", ["image", "weight"], ["out"])], "g", sides[:1], sides[1:])
    graph.initializer.append(weight)
    return helper.make_model(graph)


def elsewhere(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def own_operator(model: Any) -> None:
    model.graph.node[0].domain = "com.example"


def contributed_operator(model: Any) -> None:
    model.graph.node[0].domain = "com.microsoft"


def function(model: Any) -> None:
    model.functions.append(helper.make_function("ai.onnx", "Mine", ["x"], ["x"], [], [helper.make_opsetid("", 17)]))


def loop(model: Any) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def branches(model: Any) -> None:
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([], "t", [], [])))


def weight_elsewhere(model: Any) -> None:
    elsewhere(model.graph.initializer[0])


def location_alone(model: Any) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def constant_elsewhere(model: Any) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, np.float32), "c"))
    elsewhere(constant.attribute[0].t)
    model.graph.node.append(constant)


def sparse_weight_elsewhere(model: Any) -> None:
    sparse = model.graph.sparse_initializer.add()
    elsewhere(sparse.values)


def test_a_plain_network_is_let_through(plain: Any) -> None:
    check_onnx(plain.SerializeToString(), Path("model.onnx"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (own_operator, "com.example.MatMul"),
        (contributed_operator, "com.microsoft.MatMul"),
        (function, "an operator of its own, Mine"),
        (loop, "Loop holds a graph"),
        (branches, "If holds a graph"),
        (weight_elsewhere, "weight lies in another file"),
        (location_alone, "weight lies in another file"),
        (constant_elsewhere, "c lies in another file"),
        (sparse_weight_elsewhere, "lies in another file"),
    ],
)
def test_anything_else_is_refused(plain: Any, change: Callable[[Any], None], words: str) -> None:
    change(plain)
    with pytest.raises(PackageError, match=words):
        check_onnx(plain.SerializeToString(), Path("model.onnx"))


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\xff" * 64])
def test_what_is_no_onnx_file_is_named(content: bytes) -> None:
    with pytest.raises(PackageError, match=r"model\.onnx: this is no ONNX file"):
        check_onnx(content, Path("model.onnx"))


def test_every_shipped_file_is_plain() -> None:
    from models.registry import SHIPPED

    for path in SHIPPED.glob("*/*/model.onnx"):
        check_onnx(path.read_bytes(), path)
        assert onnx.load_model(path).opset_import[0].version == 17
