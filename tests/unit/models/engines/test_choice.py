"""Which engine a package runs on, and why: found out without importing one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.card import MixedPrecision
from models.engines import choice
from models.engines.choice import can_run, choose, gpus, missing
from models.errors import ModelError
from models.registry import Package

Make = Callable[..., Package]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have modules not installed."""

    def without(*names: str) -> None:
        monkeypatch.setattr(choice, "find_spec", lambda name: None if name in names else object())

    return without


def test_verified_on_a_cpu_it_is_onnx_runtime(make_converted: Make) -> None:
    chosen = choose(make_converted())
    assert chosen.engine == "onnx"
    assert "verified" in chosen.why


def test_without_the_extra_auto_falls_back_and_onnx_says_what_to_install(
    make_converted: Make, absent: Callable[..., None]
) -> None:
    package = make_converted()
    absent("onnxruntime")
    assert choose(package).engine == "keras"
    assert "onnxruntime is not installed" in choose(package).why
    assert not can_run(package, "onnx")
    with pytest.raises(ModelError, match=r"onnxruntime is not installed; install firstread\[onnx\]"):
        choose(package, "onnx")


def test_a_package_without_an_onnx_file_runs_on_keras(make_package: Make) -> None:
    package = make_package()
    assert choose(package).engine == "keras"
    assert "firstread models convert tiny@1.0.0" in choose(package).why
    with pytest.raises(ModelError, match=r"`firstread models convert tiny@1\.0\.0` makes one"):
        choose(package, "onnx")


def test_a_package_that_was_not_verified_runs_on_keras_unless_onnx_is_asked_for(
    make_converted: Make, absent: Callable[..., None]
) -> None:
    package = make_converted()
    assert package.card.onnx is not None
    doubtful = package.card.onnx.model_copy(update={"batch_invariant": False})
    package = Package(package.path, package.card.model_copy(update={"onnx": doubtful}))
    assert choose(package).engine == "keras"
    assert "same bits" in choose(package).why
    assert choose(package, "onnx").engine == "onnx"
    absent("tensorflow")
    assert choose(package).engine == "onnx"


def test_what_is_asked_for_is_taken(make_converted: Make) -> None:
    assert choose(make_converted(), "keras").engine == "keras"
    with pytest.raises(ModelError, match="there are: auto, keras, onnx"):
        choose(make_converted(version="2.0.0"), "abacus")


def test_where_tensorflow_has_a_gpu_it_is_keras(make_converted: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "sees_gpu", lambda: True)
    assert choose(make_converted()).why == "there is a GPU"


def test_no_gpu_is_looked_for_where_tensorflow_was_not_built_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "gpus", lambda: ("0",))

    def version(name: str) -> str:
        raise choice.PackageNotFoundError(name)

    monkeypatch.setattr(choice, "version", version)
    assert not choice.sees_gpu()


@pytest.mark.parametrize(
    ("named", "found"),
    [(None, ("0", "1", "10")), ("1,0", ("1", "0")), ("", ()), ("-1", ()), ("1,-1,0", ("1",)), ("GPU-4f", ("GPU-4f",))],
)
def test_gpus_are_those_that_cuda_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, found: tuple[str, ...]
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus(tmp_path) == found


def test_without_a_device_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpus(tmp_path) == ()


def test_what_is_missing_is_named() -> None:
    assert missing("numpy", "no_such_module_here", "json") == "no_such_module_here"
    assert missing("numpy") == ""


MIXED_CARD = {"difference": 2e-4, "inputs": 36, "device": "gpu", "verified_with": "keras 3.15.1, some GPU"}


@pytest.fixture
def make_mixed(make_package: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Packages whose cards allow mixed precision, on a machine with a GPU."""
    monkeypatch.setattr(choice, "sees_gpu", lambda: True)

    def make(**changes: str) -> Package:
        package = make_package()
        found = MixedPrecision(weights_sha256=package.card.weights_sha256, **(MIXED_CARD | changes))
        return Package(package.path, package.card.model_copy(update={"mixed_precision": found}))

    return make


def test_mixed_precision_is_for_who_asks_where_the_card_allows_it(make_mixed: Make) -> None:
    package = make_mixed()
    assert choose(package).engine == "keras"
    assert choose(package, "keras", "float32").refused == ""
    for wanted in ("auto", "keras"):
        chosen = choose(package, wanted, "mixed")
        assert (chosen.engine, chosen.refused) == ("keras-mixed", "")
        assert "mixed precision within 0.0002 of float32" in chosen.why
    assert choose(package, "keras-mixed").engine == "keras-mixed"
    assert can_run(package, "keras-mixed")


def test_else_it_is_float32_and_the_reason_is_given(
    make_mixed: Make, make_package: Make, make_converted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(package: Package, engine: str = "keras") -> str:
        chosen = choose(package, "onnx" if engine == "onnx" else "keras", "mixed")
        assert chosen.engine == engine
        return chosen.refused

    elsewhere = make_mixed(device="cpu")
    assert "compared on no GPU" in refused(elsewhere)
    assert not can_run(elsewhere, "keras-mixed")
    allowed = Package(elsewhere.path, elsewhere.card.model_copy(
        update={"mixed_precision": MixedPrecision(weights_sha256=elsewhere.card.weights_sha256, **MIXED_CARD)}
    ))  # fmt: skip
    assert refused(allowed, "keras-mixed") == ""
    monkeypatch.setattr(choice, "sees_gpu", lambda: False)
    assert refused(allowed) == "mixed precision is for a GPU, and there is none here"
    with pytest.raises(ModelError, match="engine keras-mixed: mixed precision is for a GPU"):
        choose(allowed, "keras-mixed")
    without = make_package(version="2.0.0")
    assert "`firstread models convert tiny@2.0.0 --mixed-precision`" in refused(without)
    assert refused(make_converted(version="3.0.0"), "onnx") == "onnx computes in float32 alone"
