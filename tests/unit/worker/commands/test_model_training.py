"""`firstread models train`: what is asked is done or refused in words, and nothing learnt is lost."""

import csv
import json
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from models.backend import load_keras
from models.golden import golden_image
from models.registry import Registry
from models.training import recipes
from models.training.history import Epoch, Preparation, Step
from models.training.progress import TrainingProgress
from tests.support.model_commands import MODEL, call, called
from tests.support.training_process import RECIPE

pytestmark = pytest.mark.usefixtures("own_folder", "logs_as_they_were")

QUICK = ("--epochs", 2, "--set", "warmup_epochs=0", "--set", "mixup=0")


@pytest.fixture(autouse=True)
def _tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.TRAINING_RECIPES, RECIPE.name, RECIPE)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled films")
    random = np.random.default_rng(7)
    rows = []
    for split in ("train", "val", "test"):
        for index in range(12):
            film = golden_image(56, 48).astype(np.float32) + random.normal(0, 6, (56, 48))
            if index % 2:
                film[8:30, 8:40] = 250
            name = f"{split}_{index}.png"
            Image.fromarray(np.clip(film, 0, 255).astype(np.uint8)).save(root / name)
            rows.append(
                [
                    name,
                    ("normal", "pneumonia")[index % 2],
                    split,
                    f"{split}{index // 2}",
                    ("near", "far")[index // 2 % 2],
                ]
            )
    with (root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "label", "split", "patient_id", "source"], *rows])
    return root


Event = Preparation | Step | Epoch


@contextmanager
def told(react: Callable[[Event], object]) -> Iterator[None]:
    """Do something when a run tells of its progress."""
    watch = TrainingProgress.watch

    def watched(self: TrainingProgress, event: Event) -> None:
        watch(self, event)
        react(event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "watch", watched)
        yield


def ctrl_c(when: Callable[[Event], bool], times: int = 1) -> AbstractContextManager[None]:
    """Press Ctrl-C so often at the events for which `when` says yes."""
    return told(lambda event: [signal.raise_signal(signal.SIGINT) for _ in range(times if when(event) else 0)])


def trained(films: Path, out: Path, *arguments: object) -> Result:
    return call("train", RECIPE.name, "--data", films, "--out", out, *QUICK, *arguments)


def is_step(epoch: int, batch: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Step) and (event.epoch, event.batch) == (epoch, batch)


def broken_off(out: Path) -> list[Path]:
    return sorted(out.glob(".training-*"))


def test_a_package_of_the_next_version_is_made(films: Path, tmp_path: Path) -> None:
    result = trained(films, tmp_path, "--limitation", "One person read the films.", "--seed", 0)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stderr.split())
    balance = "normal │ 6 (6) │ 6 (6) │ 6 (6)"
    for said in ("images (patients)", balance, "version 1.0.0", "epoch 2 of 2: loss", "best epoch", "peak memory"):
        assert said in shown
    assert f"written: {tmp_path / RECIPE.name / '1.0.0'}" in result.stdout
    assert f"firstread models add {tmp_path / RECIPE.name / '1.0.0'}\n" in result.stdout
    assert broken_off(tmp_path) == []
    card = called("train", RECIPE.name, "--data", films, "--out", tmp_path, *QUICK)
    assert (card["version"], card["training"]["seed"]) == ("1.1.0", 1)
    first = json.loads((tmp_path / RECIPE.name / "1.0.0" / "card.json").read_text())
    assert (first["limitations"][-1], first["training"]["seed"]) == ("One person read the films.", 0)
    assert first["training"]["initial_weights"] == "random"
    assert first["training"]["libraries"].keys() >= {"keras", "backend", "python"}
    evaluated = called("evaluate", tmp_path / RECIPE.name / "1.0.0", "--data", films, "--rounds", 10)
    assert evaluated["accuracy"]["value"] == first["metrics"]["accuracy"]["value"]


def test_a_package_made_elsewhere_goes_before_the_installed_one_once_it_is_added(films: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    assert trained(films, before, "--version", "2.0.0").exit_code == 0
    assert call("add", before / RECIPE.name / "2.0.0").exit_code == 0
    made = trained(films, after)
    assert f"written: {after / RECIPE.name / '2.1.0'}" in made.stdout, made.output
    assert call("add", after / RECIPE.name / "2.1.0").exit_code == 0
    installed = Registry(tmp_path / "data" / "models")
    assert installed.find(RECIPE.name).card.version == "2.1.0"


def test_any_hyper_parameter_can_be_set(films: Path, tmp_path: Path) -> None:
    settings = ("--batch-size", 6, "--learning-rate", 0.002, "--set", "optimizer=sgd", "--set", "momentum=0.5")
    card = called("train", RECIPE.name, "--data", films, "--out", tmp_path, *QUICK, *settings)
    found = card["training"]["hyper_parameters"]
    assert {name: found[name] for name in ("epochs", "batch_size", "learning_rate", "optimizer", "momentum")} == {
        "epochs": 2,
        "batch_size": 6,
        "learning_rate": 0.002,
        "optimizer": "sgd",
        "momentum": 0.5,
    }
    assert found["patience"] == RECIPE.hyper_parameters.patience


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "speed=9"), "no hyper-parameter 'speed'; there are: epochs, batch_size"),
        (("--set", "balance=best"), "'best' is none of none, weights,"),
        (("--set", "patience"), "'patience' is not NAME=VALUE"),
        (("--set", "epochs=3"), "epochs is given twice"),
        (("--finish",), "it goes with --resume"),
        (("--run", "."), "it goes with --resume"),
        (("--folds", 3, "--resume"), "keeps nothing that could be resumed"),
        (("--resume", "--backbone-weights", "none"), "has its weights already"),
    ],
)
def test_what_cannot_be_asked_is_bad_usage(
    arguments: tuple[object, ...], said: str, films: Path, tmp_path: Path
) -> None:
    result = trained(films, tmp_path / "out", *arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_after_the_step_and_resume_goes_on(films: Path, tmp_path: Path) -> None:
    with ctrl_c(is_step(2, 1)):
        result = trained(films, tmp_path, "--limitation", "One person read the films.")
    assert result.exit_code == 130
    [folder] = broken_off(tmp_path)
    assert "stopping after this step; Ctrl-C once more stops at once" in result.stderr
    assert "stopped in epoch 2, after 1 of 2 batches" in result.stderr
    going_on, finishing = (shlex.split(line) for line in result.stderr.splitlines() if line.startswith("  firstread"))
    asked = ["train", RECIPE.name, "--data", str(films), "--out", str(tmp_path)]
    assert going_on == ["firstread", "models", *asked, "--resume", "--run", str(folder)]
    assert finishing == [*going_on, "--finish"]

    other = call("train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume", "--epochs", 7)
    assert other.exit_code == 2
    assert "epochs was 2, is 7" in other.stderr
    result = call("train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume")
    assert result.exit_code == 0, result.output
    assert f"going on with {RECIPE.name}@1.0.0, 1 of 2 epochs done" in result.stderr
    assert broken_off(tmp_path) == []
    card = json.loads((tmp_path / RECIPE.name / "1.0.0" / "card.json").read_text())
    assert (card["training"]["epochs_run"], card["limitations"][-1]) == (2, "One person read the films.")
    nothing = call("train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume")
    assert nothing.exit_code == 1
    assert f"no run of {RECIPE.name} was broken off here" in nothing.stderr


def test_of_several_runs_one_is_chosen_and_can_be_finished(films: Path, tmp_path: Path) -> None:
    with ctrl_c(is_step(2, 1)):
        for _ in range(2):
            assert trained(films, tmp_path).exit_code == 130
    again = call("train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume")
    assert again.exit_code == 1
    first, second = broken_off(tmp_path)
    for folder in (first, second):
        assert f"--run {folder}" in again.stderr
    card = called(
        "train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume", "--finish", "--version", "1.1.0"
    )
    assert (card["version"], card["training"]["epochs_run"]) == ("1.1.0", 1)
    [left] = broken_off(tmp_path)
    finished = call("train", RECIPE.name, "--data", films, "--resume", "--run", left, "--finish")
    assert finished.exit_code == 0, finished.output
    assert (tmp_path / RECIPE.name / "1.0.0" / "model.keras").is_file()


def test_a_second_ctrl_c_stops_at_once(films: Path, tmp_path: Path) -> None:
    with ctrl_c(is_step(2, 2), times=2):
        result = trained(films, tmp_path)
    assert result.exit_code == 130
    [folder] = broken_off(tmp_path)
    assert f"kept in {folder}" in result.stderr
    state = call("train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume", "--finish")
    assert state.exit_code == 0, state.output


def test_stopped_before_anything_was_learnt_nothing_is_left(films: Path, tmp_path: Path) -> None:
    with ctrl_c(lambda event: isinstance(event, Preparation)):
        result = trained(films, tmp_path / "out")
    assert result.exit_code == 130
    assert "nothing had been learnt yet, so nothing was kept" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_folds_tell_how_much_figures_vary(films: Path, tmp_path: Path) -> None:
    asked = ("train", RECIPE.name, "--data", films, "--out", tmp_path / "out", *QUICK, "--folds", 3)
    found = called(*asked)
    assert [fold["name"] for fold in found["folds"]] == ["1", "2", "3"]
    assert sum(fold["films"] for fold in found["folds"]) == 36
    accuracies = [fold["accuracy"] for fold in found["folds"]]
    assert found["summary"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-4)
    assert found["summary"]["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-4)
    assert (found["seed"], found["hyper_parameters"]["epochs"]) == (1, 2)
    assert not (tmp_path / "out").exists()
    with ctrl_c(is_step(1, 1)):
        stopped = call(*asked)
    assert stopped.exit_code == 130
    assert "stopped in fold 1 of 3; no fold was finished" in stopped.stderr


def test_finished_folds_are_shown_when_a_later_one_is_stopped(films: Path, tmp_path: Path) -> None:
    begun: list[Event] = []

    def in_second_fold(event: Event) -> bool:
        begun.extend([event] if is_step(1, 1)(event) else [])
        return len(begun) == 2 and event is begun[1]

    asked = ("train", RECIPE.name, "--data", films, "--out", tmp_path / "out", *QUICK, "--folds", 3, "--json")
    with ctrl_c(in_second_fold):
        stopped = call(*asked)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "fold 1: 12 films, accuracy 0." in stopped.stderr or "fold 1: 12 films, accuracy 1." in stopped.stderr
    before, _, after = stopped.stderr.partition("stopped in fold 2 of 3; of the finished ones:")
    assert "mean" not in before
    assert "mean" in after
    assert "fold 2:" not in stopped.stderr


def test_each_source_is_left_out_in_turn(films: Path, tmp_path: Path) -> None:
    asked = ("train", RECIPE.name, "--data", films, "--out", tmp_path / "out", *QUICK, "--leave-one-source-out")
    found = called(*asked)
    sources = [fold["name"] for fold in found["folds"]]
    assert len(sources) >= 2
    assert sum(fold["films"] for fold in found["folds"]) == 36
    for fold in found["folds"]:
        assert sum(films for _, films in fold["right"].values()) == fold["films"]
    assert not (tmp_path / "out").exists()
    both = call(*asked, "--folds", 3)
    assert both.exit_code == 2
    assert "one cross-validation at a time" in both.output


def test_a_backend_that_does_not_serve_leaves_the_package_to_tensorflow(films: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def pretend(event: Event) -> None:
            if isinstance(event, Epoch) and event.number == 2:
                patch.setattr(load_keras().backend, "backend", lambda: "jax")

        with told(pretend):
            result = trained(films, tmp_path)
    assert result.exit_code == 0, result.output
    assert "jax has trained the network; the package is made with TensorFlow:\n  KERAS_BACKEND=tensorflow" in (
        result.stderr
    )
    card = called("train", RECIPE.name, "--data", films, "--out", tmp_path, "--resume")
    assert card["training"]["epochs_run"] == 2


def test_what_is_wrong_is_explained(films: Path, tmp_path: Path) -> None:
    assert call("train", "no_such", "--data", tmp_path).exit_code == 2
    assert call("train", MODEL, "--data", tmp_path, "--version", "9.0.0").exit_code == 1
    nowhere = call("train", MODEL, "--data", tmp_path / "nowhere")
    assert nowhere.exit_code == 1
    assert f"{tmp_path / 'nowhere'}: there is no such folder" in nowhere.stderr


def copied(films: Path, to: Path, keep: Callable[[str, str, int], bool]) -> Path:
    """Copy the films for which `keep` says yes to split, label and number."""
    to.mkdir()
    header, *rows = (films / "labels.csv").read_text().split()
    kept = [row for row in rows if keep(row.split(",")[2], row.split(",")[1], int(row.split(".")[0].split("_")[1]))]
    for row in kept:
        (to / row.split(",")[0]).write_bytes((films / row.split(",")[0]).read_bytes())
    (to / "labels.csv").write_text("\n".join([header, *kept]))
    return to


@pytest.mark.parametrize(
    ("keep", "lacks"),
    [
        (lambda split, label, _: (split, label) != ("val", "pneumonia"), "split=val has no film of pneumonia"),
        (lambda split, label, _: (split, label) != ("train", "normal"), "split=train has no film of normal"),
        (lambda split, _label, _: split != "test", "split=test has no film"),
        (lambda _split, label, _: label == "normal", "split=train has no film of pneumonia; split=val has no film of"),
    ],
)
def test_too_few_films_are_told_before_anything_is_learnt(
    keep: Callable[[str, str, int], bool], lacks: str, films: Path, tmp_path: Path
) -> None:
    result = trained(copied(films, tmp_path / "films", keep), tmp_path / "out")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert f"{tmp_path / 'films'}: {lacks}" in said
    assert "add films of other patients" in said
    assert "images (patients)" in said
    assert not (tmp_path / "out").exists()


def test_too_few_patients_for_a_validation_part_are_told_before_anything_is_learnt(films: Path, tmp_path: Path) -> None:
    few = copied(
        films, tmp_path / "films", lambda split, _, number: split == "test" or (split == "train" and number < 2)
    )
    result = trained(few, tmp_path / "out")
    assert result.exit_code == 1
    assert "split=val has no film of" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_go_on_with_other_films(films: Path, tmp_path: Path) -> None:
    with ctrl_c(is_step(2, 1)):
        assert trained(films, tmp_path / "out").exit_code == 130
    [folder] = broken_off(tmp_path / "out")
    fewer = copied(films, tmp_path / "films", lambda _split, _label, number: number < 10)
    result = trained(fewer, tmp_path / "out", "--resume")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"{folder}: this run was begun otherwise: the films, their labels or their splits are others" in said
    assert "give --data as it was then" in said
    assert f"what it has learnt stays in {folder} until you remove it" in said


def test_weights_that_are_not_there_leave_nothing(films: Path, tmp_path: Path) -> None:
    four = tmp_path / "films"
    four.mkdir()
    rows = ["file,label,split,patient_id"]
    for place, split in enumerate(("train", "val", "test")):
        for index, label in enumerate(("normal", "pneumonia", "covid", "tuberculosis")):
            name = f"{split}{index}.png"
            Image.fromarray(np.roll(golden_image(), 9 * index + place, axis=1)).save(four / name)
            rows.append(f"{name},{label},{split},{name}")
    (four / "labels.csv").write_text("\n".join(rows))
    missing = call("train", MODEL, "--data", four, "--backbone-weights", tmp_path / "none.h5")
    assert missing.exit_code == 2
    assert "no such file" in missing.stderr
    shipped = Registry().find(MODEL).card
    major, minor, _ = shipped.version_key
    assert f"this will be version {major}.{minor + 1}.0" in missing.stderr
    assert list((tmp_path / "data" / "models").iterdir()) == []
    shadowing = call("train", MODEL, "--data", four, "--version", shipped.version)
    assert shadowing.exit_code == 1
    assert "installed already" in shadowing.stderr
