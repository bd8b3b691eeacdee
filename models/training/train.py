"""Training: films in, the weights that did best on the validation patients out."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backend import keras_arrays, load_backend
from models.errors import DataError
from models.preprocessing import FloatArray, load_picture
from models.training.dataset import Dataset, ReadImage
from models.training.feed import Feed, film_inputs, prepared_films
from models.training.hyperparameters import HyperParameters
from models.training.recipes import TrainingRecipe


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training films gave; losses are cross-entropies under class weights."""

    number: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Step:
    """Progress within an epoch."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float


@dataclass(frozen=True)
class Fit:
    """A finished training run: the best network, and how it went."""

    model: Any
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float

    def history_rows(self) -> list[dict[str, float]]:
        """Return the epochs as plain values, for JSON."""
        return [asdict(epoch) for epoch in self.history]


Watch = Callable[[Step | Epoch], None]


def train(
    recipe: TrainingRecipe,
    dataset: Dataset,
    *,
    hyper_parameters: HyperParameters,
    seed: int,
    backbone_weights: Path | None,
    checkpoint: Path,
    threads: int = 2,
    read: ReadImage = load_picture,
    watch: Watch = lambda _: None,
) -> Fit:
    """Train a recipe's network and keep the weights of the epoch with the least validation loss.

    Adam with decoupled weight decay, a warm-up and a cosine schedule; the loss is the cross-entropy with every class
    weighted to count the same. What is validated and kept is the running average of the weights (B. T. Polyak,
    A. B. Juditsky, 1992), which is steadier than the last step's. Training ends when `patience` epochs brought no
    better validation loss.

    Parameters
    ----------
    checkpoint
        Where the best network so far is written (`.keras`), so that a broken-off run leaves something.
    threads
        Threads that read and prepare films.
    read
        Reader of a film; a reader that takes DICOM too is handed in by the caller.
    watch
        Called with each `Step` and each `Epoch`.

    Raises
    ------
    DataError
        If a split is empty, a class has no training film, or a film cannot be read.
    RecipeError
        If the backbone weights do not fit.
    """
    keras, _ = load_backend()
    keras.utils.set_random_seed(seed)
    began = time.monotonic()
    shape, epochs = recipe.input, hyper_parameters.epochs
    validation = dataset.split("val")
    weights = dataset.class_weights()
    model = recipe.build(shape.rows, shape.columns, shape.channels, len(recipe.labels), backbone_weights)
    average = keras.models.clone_model(model)
    with keras_arrays():
        average.set_weights(model.get_weights())
    inputs = film_inputs(recipe, hyper_parameters.augmentation, read)
    feed = Feed(dataset, inputs, hyper_parameters, seed=seed, threads=threads)
    schedule = _schedule(hyper_parameters, feed.batches)
    step = _training_step(
        model=model,
        average=average,
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=hyper_parameters.weight_decay, clipnorm=1.0),
        output=recipe.output,
        hyper_parameters=hyper_parameters,
    )
    val_x = prepared_films(recipe, validation, read, threads)
    val_y = np.asarray(dataset.targets(validation))

    history: list[Epoch] = []
    best: Epoch | None = None
    for number in range(1, epochs + 1):
        start = time.monotonic()
        losses: list[float] = []
        for index, batch in enumerate(feed.epoch(number), start=1):
            losses.append(float(step(*batch)))
            watch(Step(number, epochs, index, feed.batches, losses[-1]))
        val_loss, val_accuracy = balanced_loss(raw_probabilities(average, val_x), val_y, weights, recipe.output)
        epoch = Epoch(
            number=number,
            train_loss=float(np.mean(losses)),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=float(schedule(number * feed.batches)),
            seconds=time.monotonic() - start,
        )
        history.append(epoch)
        watch(epoch)
        if best is None or epoch.val_loss < best.val_loss:
            best = epoch
            with keras_arrays():
                average.save(checkpoint)
        elif number - best.number >= hyper_parameters.patience:
            break
    if best is None:
        raise DataError("no epoch was trained: epochs is 1 or more, and the validation loss must be a number")
    kept = keras.models.load_model(checkpoint, compile=False, safe_mode=True)
    return Fit(kept, tuple(history), best.number, time.monotonic() - began)


def _schedule(hyper_parameters: HyperParameters, batches: int) -> Any:
    """Learning rate over the steps: up from a twentieth in the warm-up, then down a half cosine to a fiftieth."""
    keras, _ = load_backend()
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=hyper_parameters.learning_rate / 20,
        decay_steps=max(1, round((hyper_parameters.epochs - hyper_parameters.warmup_epochs) * batches)),
        warmup_target=hyper_parameters.learning_rate,
        warmup_steps=round(hyper_parameters.warmup_epochs * batches),
        alpha=0.02,
    )


def _training_step(*, model: Any, average: Any, optimizer: Any, output: str, hyper_parameters: HyperParameters) -> Any:
    """One step of the optimizer and of the running average, compiled once."""
    keras, tf = load_backend()
    losses = {"softmax": keras.losses.CategoricalCrossentropy, "sigmoid": keras.losses.BinaryCrossentropy}
    entropy = losses[output](label_smoothing=hyper_parameters.label_smoothing, reduction=None)
    optimizer.build(model.trainable_variables)
    signature = [
        tf.TensorSpec((None, *model.input_shape[1:]), tf.float32),
        tf.TensorSpec((None, *model.output_shape[1:]), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(entropy(y, model(x, training=True)) * weight)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        done = tf.cast(optimizer.iterations, tf.float32)
        # A short memory at first, so that the random head of the first steps is forgotten.
        decay = tf.minimum(hyper_parameters.average_decay, (1.0 + done) / (10.0 + done))
        for kept, now in zip(average.trainable_variables, model.trainable_variables, strict=True):
            kept.assign(decay * kept + (1.0 - decay) * now)
        for kept, now in zip(average.non_trainable_variables, model.non_trainable_variables, strict=True):
            kept.assign(now)
        return loss

    return step


def raw_probabilities(model: Any, inputs: FloatArray) -> FloatArray:
    """Ask a network for float32 (N, L), as it stands, without a card's temperature."""
    parts = [model(inputs[start : start + 32], training=False).numpy() for start in range(0, len(inputs), 32)]
    return np.concatenate(parts)


def balanced_loss(
    probabilities: FloatArray, targets: NDArray[np.int_], weights: dict[int, float], output: str
) -> tuple[float, float]:
    """Cross-entropy under class weights, and plain accuracy.

    Parameters
    ----------
    probabilities
        (N, L).
    targets
        (N,).
    weights
        Weight of each class.
    output
        `softmax` or `sigmoid` (there every label counts, not only the true one).
    """
    bounded = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    rows = np.arange(len(targets))
    losses = -np.log(bounded[rows, targets])
    if output == "sigmoid":
        losses -= np.log1p(-bounded).sum(axis=1) - np.log1p(-bounded[rows, targets])
    weight = np.asarray([weights[int(target)] for target in targets])
    accuracy = float((bounded.argmax(axis=1) == targets).mean())
    return float((losses * weight).sum() / weight.sum()), accuracy
