"""VGG16 has its published size, and takes ImageNet weights from a file, from Keras, or not at all."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from models.architectures import covid_cxr_vgg16, tuberculosis_vgg16, vgg16
from models.backend import load_backend
from models.errors import RecipeError

SMALL = 4
"""Width of the first block of a small copy."""

LAYOUTS = {
    "keras 1": "{name}/{name}_W_1:0 {name}/{name}_b_1:0",
    "keras 2": "{name}/{name}/kernel:0 {name}/{name}/bias:0",
    "keras 2, whole model": "model_weights/{name}/{name}/kernel:0 model_weights/{name}/{name}/bias:0",
}
"""Where the weights of a layer lie; the first is that of the published file."""


def write_weights(path: Path, layout: str, width: int) -> dict[str, tuple[Any, Any]]:
    """A file of the published layout, with weights of the test's own."""
    random = np.random.default_rng(5)
    written = {}
    into = 3
    with h5py.File(path, "w") as file:
        for block, (times, convolutions) in enumerate(vgg16.BLOCKS, start=1):
            for number in range(1, convolutions + 1):
                name = f"block{block}_conv{number}"
                kernel = random.standard_normal((3, 3, into, times * width), np.float32) * np.float32(0.1)
                bias = random.standard_normal(times * width, np.float32)
                for place, array in zip(LAYOUTS[layout].format(name=name).split(), (kernel, bias), strict=True):
                    file.create_dataset(place, data=array)
                written[name] = kernel, bias
                into = times * width
            file.create_group(f"block{block}_pool")
    return written


def weights_of(model: Any) -> dict[str, tuple[Any, Any]]:
    layers = [layer for layer in model.layers if "_conv" in layer.name]
    return {layer.name: (layer.kernel.numpy(), layer.bias.numpy()) for layer in layers}


def test_it_is_the_vgg16_of_keras() -> None:
    keras, _ = load_backend()
    ours = covid_cxr_vgg16.build(237, 237, 3, 1)
    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(237, 237, 3))
    assert {name: kernel.shape for name, (kernel, _) in weights_of(ours).items()} == {
        name: kernel.shape for name, (kernel, _) in weights_of(theirs).items()
    }
    assert sum(kernel.size + bias.size for kernel, bias in weights_of(ours).values()) == 14_714_688
    assert ours.get_layer(vgg16.LAST).output.shape == theirs.output.shape == (None, 7, 7, 512)
    assert ours.count_params() == 14_714_688 + 512 * 64 + 64 + 64 + 1
    assert sum(int(np.prod(weight.shape)) for weight in ours.trainable_weights) == 512 * 64 + 64 + 64 + 1


def test_the_head_on_covid_19_is_the_articles() -> None:
    model = covid_cxr_vgg16.build(237, 237, 3, 1, width=SMALL)
    head = model.layers[-5:]
    assert [type(layer).__name__ for layer in head] == ["AveragePooling2D", "Flatten", "Dense", "Dropout", "Dense"]
    assert model.get_layer("pooled").output.shape == (None, 1, 1, 8 * SMALL)
    assert (head[0].pool_size, head[2].units, head[2].activation.__name__, head[3].rate) == ((4, 4), 64, "relu", 0.2)
    assert (head[4].units, head[4].activation.__name__) == (1, "sigmoid")


def test_the_head_on_tuberculosis_is_the_articles() -> None:
    model = tuberculosis_vgg16.build(256, 256, 3, 1, width=SMALL)
    head = model.layers[-4:]
    assert [type(layer).__name__ for layer in head] == ["Flatten", "Dense", "Dropout", "Dense"]
    assert (head[1].units, head[1].activation.__name__, head[2].rate) == (256, "relu", 0.5)
    assert head[1].kernel.shape == (8 * 8 * 8 * SMALL, 256)  # 32,768 x 256 at full width
    assert (head[3].units, head[3].activation.__name__) == (1, "sigmoid")


@pytest.mark.parametrize("build", [covid_cxr_vgg16.build, tuberculosis_vgg16.build])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_weights_of_a_file_arrive_in_the_layers(build: Any, layout: str, tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    written = write_weights(path, layout, SMALL)
    model = build(128, 128, 3, 1, path, width=SMALL)
    found = weights_of(model)
    assert list(found) == list(written)
    for name, (kernel, bias) in written.items():
        assert np.array_equal(found[name][0], kernel)
        assert np.array_equal(found[name][1], bias)
    image = np.random.default_rng(2).random((1, 128, 128, 3), np.float32)
    assert 0 < model(image, training=False).numpy()[0, 0] < 1


def test_a_file_of_full_width_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    written = write_weights(path, "keras 1", vgg16.WIDTH)
    model = tuberculosis_vgg16.build(32, 32, 3, 1, path)
    assert np.array_equal(model.get_layer("block5_conv3").kernel.numpy(), written["block5_conv3"][0])
    assert np.array_equal(model.get_layer("block1_conv1").bias.numpy(), written["block1_conv1"][1])


def test_a_grey_network_is_the_colour_network_on_a_grey_image(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    write_weights(path, "keras 1", SMALL)
    grey, colour = (tuberculosis_vgg16.build(32, 32, channels, 1, path, width=SMALL) for channels in (1, 3))
    keras, _ = load_backend()
    image = np.random.default_rng(2).random((1, 32, 32, 1), np.float32)
    features = [
        keras.Model(model.input, model.get_layer(vgg16.LAST).output)(inputs, training=False).numpy()
        for model, inputs in ((grey, image), (colour, np.repeat(image, 3, axis=3)))
    ]
    assert features[0].std() > 0
    assert features[0] == pytest.approx(features[1], rel=1e-4, abs=1e-4)


def test_a_file_of_another_network_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    with pytest.raises(RecipeError, match=r"vgg16\.h5: there is no such file"):
        tuberculosis_vgg16.build(32, 32, 3, 1, path, width=SMALL)
    write_weights(path, "keras 1", SMALL + 1)
    with pytest.raises(RecipeError, match=r"block1_conv1 is \(3, 3, 3, 5\), VGG16 has \(3, 3, 3, 4\)"):
        tuberculosis_vgg16.build(32, 32, 3, 1, path, width=SMALL)
    with h5py.File(path, "w") as file:
        file.create_dataset("conv1/conv1_W", data=np.zeros((3, 3, 3, 64), np.float32))
    with pytest.raises(RecipeError, match="no weights of VGG16's block1_conv1"):
        tuberculosis_vgg16.build(32, 32, 3, 1, path, width=SMALL)
    path.write_text("weights")
    with pytest.raises(RecipeError, match="no HDF5 file"):
        tuberculosis_vgg16.build(32, 32, 3, 1, path, width=SMALL)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Keras, and no network: what looks for one finds a closed door."""
    load_backend()
    folder = tmp_path / "keras"
    folder.mkdir()
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(folder))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return folder


def test_without_a_network_it_is_said_what_to_do(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecipeError, match="could not be downloaded") as raised:
        tuberculosis_vgg16.build(32, 32, 3, 1, "imagenet", width=SMALL)
    assert "bring the file vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5" in str(raised.value)
    assert "--backbone-weights PATH" in str(raised.value)
    assert capsys.readouterr().out == ""


def test_what_keras_downloads_arrives_in_the_layers(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "published.h5"
    written = write_weights(path, "keras 1", SMALL)
    monkeypatch.setattr(vgg16, "ORIGIN", path.as_uri())
    monkeypatch.setattr(vgg16, "MD5", hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    model = tuberculosis_vgg16.build(32, 32, 3, 1, "imagenet", width=SMALL)
    assert np.array_equal(model.get_layer("block3_conv2").kernel.numpy(), written["block3_conv2"][0])
    assert (cache / "models" / "published.h5").is_file()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(vgg16, "MD5", "0" * 32)
    with pytest.raises(RecipeError, match="does not match"):
        tuberculosis_vgg16.build(32, 32, 3, 1, "imagenet", width=SMALL)
