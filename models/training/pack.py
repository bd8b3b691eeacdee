"""From a finished training run to a package: weights, card, golden pair, evaluation."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card import VERSION, Card, Label, Source, Training, TriageStep
from models.classifier import Classifier
from models.errors import DataError
from models.golden import phantom_for, save_golden
from models.preprocessing import load_picture, prepare
from models.registry import CARD, GOLDEN, WEIGHTS, Package, read_package, sha256_of
from models.training.calibrate import fit_temperature, tempered, threshold_for_sensitivity
from models.training.dataset import SPLITS, Dataset, ReadImage
from models.training.evaluate import BOOTSTRAP_ROUNDS, measure, score
from models.training.feed import prepared_films
from models.training.hyperparameters import HyperParameters
from models.training.limitations import limitations as limitations_of
from models.training.recipes import LabelPlan, TrainingRecipe
from models.training.train import Fit, raw_probabilities

TOLERANCE = 1e-3
"""Replay tolerance of a probability: other processors add up in other orders (about 1e-5), other library versions
choose other algorithms; beyond this something is wrong."""

LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "numpy", "pillow", "scikit-learn", "h5py")


def new_package_folder(models_dir: Path, name: str, version: str) -> Path:
    """Make a hidden folder in which a package is put together, so that half of one is never found by a registry.

    Returns
    -------
    Path
        `.training-.../<name>/<version>/` in `models_dir`; it stays there, with its checkpoint, if the run breaks off.

    Raises
    ------
    DataError
        If the version is none, or is there already: a version is never overwritten.
    """
    if not VERSION.fullmatch(version):
        raise DataError(f"version {version!r} is not MAJOR.MINOR.PATCH, for example 1.0.0")
    if (models_dir / name / version).exists():
        raise DataError(f"{models_dir / name / version} is there already; give another --version or --out")
    models_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".training-", dir=models_dir)) / name / version
    folder.mkdir(parents=True)
    return folder


def discard_unless_trained(folder: Path) -> None:
    """Remove the hidden folder of a run that broke off before it had anything to keep."""
    if folder.is_dir() and not (folder / WEIGHTS).exists():
        shutil.rmtree(folder.parent.parent)


def finish_package(folder: Path) -> Package:
    """Move a finished package out of the hidden folder to its place.

    Raises
    ------
    DataError
        If the same version has come there meanwhile.
    """
    hidden = folder.parent.parent
    target = hidden.parent / folder.parent.name / folder.name
    target.parent.mkdir(exist_ok=True)
    try:
        folder.rename(target)
    except OSError as error:
        raise DataError(f"{target}: {error.strerror}; the finished package lies in {folder}") from None
    shutil.rmtree(hidden)
    return read_package(target)


def pack(
    recipe: TrainingRecipe,
    dataset: Dataset,
    fit: Fit,
    folder: Path,
    *,
    hyper_parameters: HyperParameters,
    seed: int,
    initial_weights: str,
    commit: str | None,
    limitations: Sequence[str] = (),
    threads: int = 2,
    read: ReadImage = load_picture,
    rounds: int = BOOTSTRAP_ROUNDS,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Package:
    """Write a package, decide temperature and thresholds on validation, and evaluate on test through the serving code.

    Parameters
    ----------
    folder
        `<name>/<version>/`, there and empty but for `model.keras`, the checkpoint of the training run.
    initial_weights
        Where the first weights came from, in words, for the card.
    commit
        `git_commit()` when the run began.
    limitations
        What is known of the films and their labels that no count of them shows, for the card.

    Raises
    ------
    DataError
        If a split is empty or a film cannot be read.
    PackageError
        If the finished package does not load or does not give its own golden pair.
    """
    validation = dataset.split("val")
    inputs = prepared_films(recipe, validation, read, threads)
    raw = raw_probabilities(fit.model, inputs)
    targets = np.asarray(dataset.targets(validation))
    temperature = fit_temperature(raw, targets, recipe.output)
    found = tempered(raw, temperature, recipe.output)

    image = phantom_for(recipe.default_for)
    shape = recipe.input
    golden = prepare(recipe.preprocessing, image.astype(np.float32), shape.rows, shape.columns, shape.channels)
    expected = tempered(raw_probabilities(fit.model, golden[np.newaxis]), temperature, recipe.output)[0]
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
        triage_rule=(
            "A finding is flagged at or above its threshold, each for itself, and then has the priority of the last of"
            " its steps that its probability reaches; a study has the most pressing priority of its findings. No step"
            " is immediate: none of these findings needs a reader within minutes."
        ),
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
        limitations=(*recipe.limitations, *limitations_of(dataset), *limitations),
        training=_training(
            recipe,
            dataset,
            fit,
            hyper_parameters=hyper_parameters,
            seed=seed,
            initial_weights=initial_weights,
            commit=commit,
        ),
    )
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    classifier = Classifier.load(read_package(folder))
    classifier.warm_up()
    scored = score(classifier, dataset, "test", read=read, threads=threads, watch=watch)
    metrics = measure(card, scored, split="test", rounds=rounds)
    (folder / CARD).write_text(card.model_copy(update={"metrics": metrics}).to_json(), encoding="utf-8")
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    _write_json(evaluation / "test.json", metrics.model_dump(mode="json"))
    _write_json(evaluation / "training.json", {"best_epoch": fit.best_epoch, "epochs": fit.history_rows()})
    return read_package(folder)


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
    *,
    hyper_parameters: HyperParameters,
    seed: int,
    initial_weights: str,
    commit: str | None,
) -> Training:
    return Training(
        recipe=recipe.name,
        architecture=recipe.architecture,
        reference=recipe.reference,
        hyper_parameters=dict(hyper_parameters.as_dict()),
        initial_weights=initial_weights,
        seed=seed,
        images=dataset.counts(),
        sources=_sources(dataset),
        epochs_run=len(fit.history),
        best_epoch=fit.best_epoch,
        seconds=round(fit.seconds, 1),
        git_commit=commit,
        libraries=library_versions(),
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


def library_versions() -> dict[str, str]:
    """Versions of what computes, as installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of this code, with `-dirty` where the classifiers were changed; None outside a checkout."""
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", str(root))
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
