"""From a finished training run to a package: weights, card, golden pair, evaluation."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card import Card, Label, Source, Training, TriageStep
from models.classifier import Classifier
from models.golden import phantom_for, save_golden
from models.preprocessing import load_picture, prepare
from models.registry import CARD, GOLDEN, WEIGHTS, Package, read_package, sha256_of
from models.temperature import tempered
from models.training.calibrate import fit_temperature, threshold_for_sensitivity
from models.training.dataset import SPLITS, Dataset, ReadImage
from models.training.evaluate import BOOTSTRAP_ROUNDS, measure, score
from models.training.feed import prepared_films
from models.training.hyperparameters import HyperParameters
from models.training.limitations import limitations
from models.training.objective import raw_probabilities
from models.training.provenance import Provenance, peak_memory
from models.training.recipes import LabelPlan, TrainingRecipe
from models.training.seen import write_training_films
from models.training.train import Fit

TOLERANCE = 1e-3
"""Replay tolerance of a probability: other processors add up in other orders (about 1e-5), other library versions
choose other algorithms; beyond this something is wrong."""

ROLLUPS = {
    "max": "a series has the highest probability of its images",
    "top_tenth": "a series has the mean of the highest tenth of its slices' probabilities",
}


def pack(
    recipe: TrainingRecipe,
    dataset: Dataset,
    fit: Fit,
    folder: Path,
    *,
    hyper_parameters: HyperParameters,
    seed: int,
    provenance: Provenance,
    threads: int = 2,
    read: ReadImage = load_picture,
    rounds: int = BOOTSTRAP_ROUNDS,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Package:
    """Write a package, decide temperature and thresholds on validation, and evaluate on test through the serving code.

    Parameters
    ----------
    folder
        `<name>/<version>/`, there; what an attempt that broke off has left in it is written anew.
    hyper_parameters, seed, provenance
        Of the run, for the card.

    Raises
    ------
    DataError
        If a split is empty or a film cannot be read.
    PackageError
        If the finished package does not load or does not give its own golden pair.
    """
    network = fit.network()
    shutil.copyfile(fit.weights, folder / WEIGHTS)
    validation = dataset.split("val")
    inputs = prepared_films(recipe, validation, read, threads)
    raw = raw_probabilities(network, inputs, recipe.output)
    targets = np.asarray(dataset.targets(validation))
    temperature = fit_temperature(raw, targets, recipe.output)
    found = tempered(raw, temperature, recipe.output)

    image = phantom_for(recipe.default_for)
    shape = recipe.input
    golden = prepare(recipe.preprocessing, image.astype(np.float32), shape.rows, shape.columns, shape.channels)
    said = raw_probabilities(network, golden[np.newaxis], recipe.output)
    expected = tempered(said, temperature, recipe.output)[0]
    save_golden(folder / GOLDEN, image, expected.astype(np.float32))

    card = Card(
        name=recipe.name,
        version=folder.name,
        title=recipe.title,
        input=recipe.input,
        recipe=recipe.preprocessing,
        window=recipe.window,
        frame_policy=recipe.frame_policy,
        output=recipe.output,
        labels=tuple(_label(recipe, plan, found[:, i], targets == i) for i, plan in enumerate(recipe.labels)),
        rollup=recipe.rollup,
        triage_rule=_triage_rule(recipe),
        threshold_rule=(
            f"The highest probability at which {recipe.sensitivity:.0%} of the validation films with the finding are"
            f" flagged, at most {recipe.highest_threshold}, so that what is more likely than not is flagged."
        ),
        temperature=temperature,
        tolerance=TOLERANCE,
        weights_sha256=sha256_of(folder / WEIGHTS),
        golden_sha256=sha256_of(folder / GOLDEN),
        default_for=recipe.default_for,
        intended_use=recipe.intended_use,
        not_for=recipe.not_for,
        limitations=(
            *recipe.limitations,
            *limitations(dataset, "slice" if recipe.window else "film"),  # a window is what CT is shown in
            *provenance.notes,
        ),
        training=_training(recipe, dataset, fit, hyper_parameters, seed, provenance),
    )
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    classifier = Classifier.load(read_package(folder), engine="keras")
    classifier.warm_up()
    scored = score(classifier, dataset, "test", read=read, threads=threads, watch=watch)
    metrics = measure(card, scored, split="test", rounds=rounds)
    (folder / CARD).write_text(card.model_copy(update={"metrics": metrics}).to_json(), encoding="utf-8")
    evaluation = folder / "evaluation"
    evaluation.mkdir(exist_ok=True)
    _write_json(evaluation / "test.json", metrics.model_dump(mode="json"))
    history = {
        "best_epoch": fit.best_epoch,
        "seconds": round(fit.seconds, 1),
        "peak_memory_bytes": peak_memory(),
        "epochs": [epoch.as_dict() for epoch in fit.history],
    }
    _write_json(evaluation / "training.json", history)
    write_training_films(folder, dataset)
    return read_package(folder)


def _triage_rule(recipe: TrainingRecipe) -> str:
    rule = (
        f"Of each finding {ROLLUPS[recipe.rollup]}, and a study the highest of its series. It is flagged at or above"
        " its threshold, each for itself, and then has the priority of the last of its steps that its probability"
        " reaches; a study has the most pressing priority of its findings."
    )
    steps = {priority for plan in recipe.labels for priority in (plan.at_threshold, *(p for _, p in plan.later_steps))}
    if "immediate" in steps:
        return rule
    return f"{rule} No step is immediate: no finding here needs a reader within minutes."


def _label(
    recipe: TrainingRecipe, plan: LabelPlan, probabilities: NDArray[np.float64], positive: NDArray[np.bool_]
) -> Label:
    if plan.at_threshold is None:
        return Label(name=plan.name, finding=False)
    threshold = threshold_for_sensitivity(probabilities, positive, recipe.sensitivity, recipe.highest_threshold)
    steps = [TriageStep(at_least=threshold, priority=plan.at_threshold)]
    steps += [TriageStep(at_least=at, priority=priority) for at, priority in plan.later_steps]
    return Label(name=plan.name, code=plan.code, finding=True, threshold=threshold, triage=tuple(steps))


def _training(
    recipe: TrainingRecipe,
    dataset: Dataset,
    fit: Fit,
    hyper_parameters: HyperParameters,
    seed: int,
    provenance: Provenance,
) -> Training:
    return Training(
        recipe=recipe.name,
        architecture=recipe.architecture,
        reference=recipe.reference,
        hyper_parameters=dict(hyper_parameters.as_dict()),
        initial_weights=provenance.initial_weights,
        seed=seed,
        images=dataset.counts(),
        sources=_sources(dataset),
        epochs_run=len(fit.history),
        best_epoch=fit.best_epoch,
        seconds=round(fit.seconds, 1),
        git_commit=provenance.commit,
        libraries=provenance.libraries,
        trained_at=datetime.now(UTC).replace(microsecond=0),
    )


def _sources(dataset: Dataset) -> tuple[Source, ...]:
    """List sources and licences of all films, with their number by split and label."""
    counted = Counter((film.source, film.licence, film.split, film.label) for film in dataset.films)
    sources = []
    for source, licence in sorted({(film.source, film.licence) for film in dataset.films}):
        images = {
            f"{split} {label}": counted[source, licence, split, label]
            for split in SPLITS
            for label in dataset.labels
            if counted[source, licence, split, label]
        }
        sources.append(Source(name=source, licence=licence, images=images))
    return tuple(sources)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
