"""What a network is trained for: its loss, the optimizer that lowers it, and how it is validated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backend import load_keras
from models.preprocessing import FloatArray
from models.training.hyperparameters import HyperParameters

WARMUP_FROM = 1 / 20
"""Share of the learning rate that a warm-up begins with."""

COSINE_TO = 1 / 50
"""Share of the learning rate that a cosine ends with."""


def compile_for(model: Any, output: str, hyper_parameters: HyperParameters, batches: int) -> None:
    """Give a network its loss, its optimizer and the accuracy that is shown, on whatever backend Keras runs.

    Parameters
    ----------
    model
        keras.Model; what its layers add to the loss (weight penalties) is lowered too.
    output
        `softmax`, `sigmoid` or `binary`, as in the card.
    hyper_parameters
        Optimizer, schedule and label smoothing are meant.
    batches
        Batches in an epoch.
    """
    keras = load_keras()
    smoothing = hyper_parameters.label_smoothing
    losses = {"softmax": keras.losses.CategoricalCrossentropy}
    loss = losses.get(output, keras.losses.BinaryCrossentropy)(label_smoothing=smoothing)

    def accuracy(truth: Any, probabilities: Any) -> Any:
        return keras.ops.equal(truth > 0.5, probabilities > 0.5)

    model.compile(
        optimizer=optimizer(hyper_parameters, batches),
        loss=loss,
        metrics=[accuracy if output == "binary" else keras.metrics.CategoricalAccuracy(name="accuracy")],
        # Compiled by XLA, a step takes TensorFlow longer on a CPU than its own kernels do; JAX has nothing else.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def optimizer(hyper_parameters: HyperParameters, batches: int) -> Any:
    """Make the optimizer.

    Parameters
    ----------
    batches
        Batches in an epoch.
    """
    keras = load_keras()
    settings: dict[str, Any] = {
        "learning_rate": schedule(hyper_parameters, batches),
        "weight_decay": hyper_parameters.weight_decay or None,
        "clipnorm": hyper_parameters.clip_norm or None,
    }
    if hyper_parameters.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=hyper_parameters.momentum, **settings)
    return keras.optimizers.Adam(**settings)  # with a weight decay, AdamW


def schedule(hyper_parameters: HyperParameters, batches: int) -> Any:
    """Make the learning rate: a number, or a schedule over the steps."""
    keras = load_keras()
    constant = hyper_parameters.schedule == "constant"
    if constant and not hyper_parameters.warmup_epochs:
        return hyper_parameters.learning_rate
    warmup = hyper_parameters.warmup_epochs
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=hyper_parameters.learning_rate * (WARMUP_FROM if warmup else 1.0),
        decay_steps=max(1, round((hyper_parameters.epochs - warmup) * batches)),
        warmup_target=hyper_parameters.learning_rate if warmup else None,
        warmup_steps=round(warmup * batches),
        alpha=1.0 if constant else COSINE_TO,
    )


def raw_probabilities(model: Any, inputs: FloatArray, output: str) -> FloatArray:
    """Ask a network as it stands, without a card's temperature.

    Parameters
    ----------
    model
        keras.Model.
    inputs
        float32 (N, H, W, C).
    output
        `softmax`, `sigmoid` or `binary`: its one unit becomes two columns.

    Returns
    -------
    FloatArray
        float32 (N, L).
    """
    found = computed(model, inputs)
    return np.concatenate([1.0 - found, found], axis=1) if output == "binary" else found


def computed(model: Any, inputs: FloatArray) -> FloatArray:
    """Return what a network gives for each input, as in service: nothing is dropped."""
    keras = load_keras()
    parts = [model(inputs[start : start + 32], training=False) for start in range(0, len(inputs), 32)]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def balanced_loss(
    probabilities: FloatArray, targets: NDArray[np.int_], weights: FloatArray, output: str
) -> tuple[float, float]:
    """Cross-entropy under class weights, and plain accuracy.

    Parameters
    ----------
    probabilities
        (N, L).
    targets
        (N,).
    weights
        (L,).
    output
        `softmax` and `binary`: the cross-entropy of the true label; `sigmoid`: the mean over the labels.
    """
    bounded = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    truth = np.eye(bounded.shape[1])[targets]
    losses = -(truth * np.log(bounded)).sum(axis=1)
    if output == "sigmoid":
        losses = (losses - ((1 - truth) * np.log1p(-bounded)).sum(axis=1)) / bounded.shape[1]
    weight = weights[targets]
    accuracy = float((bounded.argmax(axis=1) == targets).mean())
    return float((losses * weight).sum() / weight.sum()), accuracy
