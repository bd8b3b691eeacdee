"""SqueezeNet v1.1 has the article's layers, and takes backbone weights in the layout in which they are published."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from models.architectures import squeezenet
from models.errors import RecipeError


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the published layout (Keras 1: a group a layer, numbered kernels), with weights of the test's own."""
    path = tmp_path_factory.mktemp("backbone") / "squeezenet.h5"
    random = np.random.default_rng(5)
    with h5py.File(path, "w") as file:
        number, channels = 1, 3
        layers = [("conv1", 3, 64)]
        for name, squeeze, expand in squeezenet.FIRES:
            layers += [(f"{name}/squeeze1x1", 1, squeeze), (f"{name}/expand1x1", 1, expand)]
            layers += [(f"{name}/expand3x3", 3, expand)]
        for name, size, width in layers:
            if name.endswith("squeeze1x1"):
                squeeze = width
            into = squeeze if "expand" in name else channels
            kernel = random.standard_normal((size, size, into, width)) * np.sqrt(2 / (size * size * into))
            file.create_dataset(f"{name}/uniform{number}", data=kernel.astype(np.float32))
            file.create_dataset(f"{name}/{name}_b", data=random.standard_normal(width).astype(np.float32) * 0.1)
            number += 1
            if name == "conv1":
                channels = 64
            elif name.endswith("expand3x3"):
                channels = 2 * width
    return path


def test_it_has_as_many_weights_as_published() -> None:
    assert squeezenet.build(224, 224, 3, 4).count_params() == 722_496 + 4 * 513
    assert squeezenet.build(224, 224, 3, 1000).count_params() == 1_235_496


def test_it_gives_probabilities_and_has_no_layer_that_runs_code() -> None:
    model = squeezenet.build(96, 80, 1, 4)
    found = model(np.random.default_rng(1).standard_normal((2, 96, 80, 1), np.float32), training=False).numpy()
    assert found.shape == (2, 4)
    assert found.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert not any(type(layer).__name__ == "Lambda" for layer in model.layers)


def test_a_grey_network_is_the_colour_network_on_a_grey_image(backbone: Path) -> None:
    from models.backend import load_backend

    keras, _ = load_backend()
    grey = squeezenet.build(96, 96, 1, 4, backbone_weights=backbone)
    colour = squeezenet.build(96, 96, 3, 4, backbone_weights=backbone)
    image = np.random.default_rng(2).standard_normal((1, 96, 96, 1), np.float32) / squeezenet.INPUT_SCALE
    features = [
        keras.Model(model.input, model.get_layer("fire9_concat").output)(inputs, training=False).numpy()
        for model, inputs in ((grey, image), (colour, np.repeat(image, 3, axis=3)))
    ]
    assert features[0].std() > 0
    assert features[0] == pytest.approx(features[1], rel=1e-3, abs=1e-3)


def test_the_weights_are_those_of_the_file(backbone: Path) -> None:
    model = squeezenet.build(96, 96, 3, 4, backbone_weights=backbone)
    with h5py.File(backbone) as file:
        expected = np.asarray(file["fire5/expand3x3/fire5/expand3x3_b"])
    assert np.array_equal(model.get_layer("fire5_expand3x3").bias.numpy(), expected)


def test_a_file_of_another_network_is_refused(backbone: Path, tmp_path: Path) -> None:
    model = squeezenet.build(96, 96, 1, 4)
    with pytest.raises(RecipeError, match="no such file"):
        squeezenet.load_backbone(model, tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(RecipeError, match="no HDF5 file"):
        squeezenet.load_backbone(model, tmp_path / "text.h5")
    for name, change in (("no weights of", "fire3/squeeze1x1"), ("SqueezeNet has", "fire9/expand1x1")):
        path = tmp_path / "other.h5"
        path.write_bytes(backbone.read_bytes())
        with h5py.File(path, "a") as file:
            kernel = next(key for key in file[change] if key.startswith("uniform"))
            del file[f"{change}/{kernel}"]
            if name == "SqueezeNet has":
                file.create_dataset(f"{change}/{kernel}", data=np.zeros((1, 1, 4, 4), np.float32))
        with pytest.raises(RecipeError, match=name):
            squeezenet.load_backbone(model, path)


def test_keras_has_no_imagenet_weights_of_it_and_the_way_out_is_said() -> None:
    with pytest.raises(RecipeError, match="give --backbone-weights the path"):
        squeezenet.build(96, 96, 1, 4, backbone_weights="imagenet")


def test_a_broken_file_leaves_the_network_as_it_was(backbone: Path, tmp_path: Path) -> None:
    model = squeezenet.build(96, 96, 1, 4)
    before = model.get_layer("conv1").kernel.numpy()
    path = tmp_path / "short.h5"
    path.write_bytes(backbone.read_bytes())
    with h5py.File(path, "a") as file:
        del file["fire9/expand3x3"]
    with pytest.raises(RecipeError, match="fire9/expand3x3"):
        squeezenet.load_backbone(model, path)
    assert np.array_equal(model.get_layer("conv1").kernel.numpy(), before)
