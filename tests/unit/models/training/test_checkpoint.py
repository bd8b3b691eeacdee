"""A run goes on where it was broken off, whenever that was, and ends as if it had not been."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import DataError, RecipeError
from models.training.checkpoint import STATE, Checkpoints, Passing
from models.training.dataset import load_dataset
from models.training.history import Epoch, Preparation, Step
from models.training.train import Fit, StoppedError, fit_of
from tests.support import training_process
from tests.support.training_process import RECIPE, run

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def straight(films_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return run(films_folder, tmp_path_factory.mktemp("straight"))


def stopped_after(films: Path, state: Path, epoch: int, batch: int, **changes: Any) -> None:
    """Run until a batch was learnt."""
    seen = list[Step]()

    def watch(event: Preparation | Step | Epoch) -> None:
        if isinstance(event, Step):
            seen.append(event)

    with pytest.raises(StoppedError, match=f"stopped in epoch {epoch}, after {batch} of 3 batches"):
        run(films, state, watch, stop=lambda: bool(seen) and (seen[-1].epoch, seen[-1].batch) == (epoch, batch))


def same(one: Fit, other: Fit) -> None:
    for a, b in zip(one.history, other.history, strict=True):
        assert b.val_loss == pytest.approx(a.val_loss, abs=2e-3)
        assert b.train_loss == pytest.approx(a.train_loss, abs=2e-3)
        assert b.learning_rate == pytest.approx(a.learning_rate)
    assert one.best_epoch == other.best_epoch


def test_a_run_that_nobody_goes_on_with_writes_its_best_network_alone(
    straight: Fit, films_folder: Path, tmp_path: Path
) -> None:
    fit = run(films_folder, Path(), checkpoints=Passing(tmp_path))
    same(straight, fit)
    assert list(tmp_path.iterdir()) == [fit.weights]
    assert fit.network().count_params() == straight.network().count_params()


def test_after_kill_9_it_ends_as_if_it_had_run_straight(straight: Fit, films_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(training_process.__file__), str(films_folder), str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["step", "3", "2"]:
                process.kill()
                break
    assert process.returncode == -9
    assert len(Checkpoints(tmp_path).run().history) == 2
    numbers = list[int]()
    same(straight, run(films_folder, tmp_path, lambda event: numbers.append(getattr(event, "epoch", 3))))
    assert min(numbers) == 3


@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_stopped_within_an_epoch_goes_on_there(
    batch: int, straight: Fit, films_folder: Path, tmp_path: Path
) -> None:
    stopped_after(films_folder, tmp_path, 2, batch)
    kept = Checkpoints(tmp_path).run()
    assert (len(kept.history), len(kept.learnt)) == (1, batch)
    steps = list[tuple[int, int]]()
    same(
        straight,
        run(
            films_folder,
            tmp_path,
            lambda event: steps.append((event.epoch, event.batch)) if isinstance(event, Step) else None,
        ),
    )
    assert steps[0] == ((2, 2) if batch == 1 else (3, 1))


def test_a_run_that_is_over_is_not_run_again(films_folder: Path, tmp_path: Path) -> None:
    short = replace(RECIPE.hyper_parameters, epochs=1)
    fit = run(films_folder, tmp_path, hyper_parameters=short)
    again = run(films_folder, tmp_path, lambda _: pytest.fail("it went on"), hyper_parameters=short)
    assert again == fit


def test_a_run_can_be_ended_where_it_is(films_folder: Path, tmp_path: Path) -> None:
    stopped_after(films_folder, tmp_path / "first", 1, 2)
    with pytest.raises(DataError, match="no epoch of this run was finished"):
        run(films_folder, tmp_path / "first", finish=True)
    stopped_after(films_folder, tmp_path / "third", 3, 1)
    fit = run(films_folder, tmp_path / "third", finish=True)
    assert len(fit.history) == 2
    assert fit.network().output_shape == (None, 2)


def test_being_stopped_before_the_first_step_leaves_nothing(films_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="stopped at the validation films, 1 of 12"):
        run(films_folder, tmp_path / "state", stop=lambda: True)
    assert not (tmp_path / "state").exists()


def test_what_was_begun_otherwise_is_refused_in_words(films_folder: Path, tmp_path: Path) -> None:
    stopped_after(films_folder, tmp_path, 1, 1)
    hyper_parameters = replace(RECIPE.hyper_parameters, learning_rate=0.5, balance="none")
    dataset = load_dataset(films_folder, ("normal", "pneumonia"))
    fewer = replace(dataset, films=dataset.films[1:])
    for changes, said in (
        ({"hyper_parameters": hyper_parameters}, r"learning_rate was 0\.01, is 0\.5; balance was weights, is none"),
        ({"seed": 6}, "seed was 5, is 6"),
        ({"recipe": replace(RECIPE, preprocessing="unit_range")}, "recipe's preprocessing was chest_xray_triage, is"),
        ({"dataset": fewer}, "the films, their labels or their splits are others"),
    ):
        with pytest.raises(RecipeError, match=said):
            run(films_folder, tmp_path, **changes)  # type: ignore[arg-type]


def test_a_network_that_was_changed_since_is_refused(films_folder: Path, tmp_path: Path) -> None:
    stopped_after(films_folder, tmp_path, 1, 1)

    def wider(*shape: Any) -> Any:
        rows, columns, channels, units, weights = shape
        return training_process.build(rows, columns, channels, units + 1, weights)

    with pytest.raises(RecipeError, match="the saved state is of another network"):
        run(films_folder, tmp_path, recipe=replace(RECIPE, build=wider))


def test_a_save_that_fails_leaves_the_last_one(
    films_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(films_folder, tmp_path, 2, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["best-0001.keras", STATE]

    def full(*_arguments: Any, **_arrays: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        run(films_folder, tmp_path)
    monkeypatch.undo()
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()
    assert not list(tmp_path.glob("new-*"))
    assert fit_of(Checkpoints(tmp_path)).best_epoch == 1


def test_a_state_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training run was broken off here"):
        Checkpoints(tmp_path).run()
    for damaged in (b"", b"PK\x03\x04", b"\x93NUMPY"):
        (tmp_path / STATE).write_bytes(damaged)
        with pytest.raises(DataError, match="the state of the training run cannot be read"):
            Checkpoints(tmp_path).run()
    np.savez(tmp_path / STATE, other=np.zeros(1))
    with pytest.raises(DataError, match="the state of the training run cannot be read"):
        Checkpoints(tmp_path).run()
