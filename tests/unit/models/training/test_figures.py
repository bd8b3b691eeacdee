"""The figures of all rounds at once are those that scikit-learn gives for the films of each round."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from models.training.figures import BINS, Figures, Sample, interval, patient_weights

N, LABELS = 60, 3
RANDOM = np.random.default_rng(11)
TARGETS = RANDOM.integers(0, LABELS, N)
LOGITS = RANDOM.normal(0, 1, (N, LABELS)) + 1.2 * np.eye(LABELS)[TARGETS]
# Two decimals, so that there are ties.
PROBABILITIES = np.round(np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True), 2)
WEIGHTS = patient_weights([f"p{i // 2}" for i in range(N)], 25, 0)
EVERY_ROUND = range(len(WEIGHTS))


def rows(round_: int) -> NDArray[np.int_]:
    """The films of a round, each as often as it was drawn."""
    return np.repeat(np.arange(N), WEIGHTS[round_].astype(int))


@pytest.fixture(scope="module")
def figures() -> Figures:
    return Sample(TARGETS, PROBABILITIES, "softmax").figures(WEIGHTS)


@pytest.mark.parametrize("round_", EVERY_ROUND)
def test_they_are_those_of_scikit_learn(figures: Figures, round_: int) -> None:
    true, given = TARGETS[rows(round_)], PROBABILITIES[rows(round_)]
    called = given.argmax(axis=1)
    assert figures.accuracy[round_] == pytest.approx(metrics.accuracy_score(true, called))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(true, called, labels=range(LABELS))
    assert figures.precision[round_] == pytest.approx(precision)
    assert figures.recall[round_] == pytest.approx(recall)
    assert figures.f1[round_] == pytest.approx(f1)
    assert figures.macro_f1[round_] == pytest.approx(f1.mean())
    aurocs = [metrics.roc_auc_score(true == i, given[:, i]) for i in range(LABELS)]
    assert figures.auroc[round_] == pytest.approx(aurocs)
    assert figures.macro_auroc[round_] == pytest.approx(np.mean(aurocs))
    averages = [metrics.average_precision_score(true == i, given[:, i]) for i in range(LABELS)]
    assert figures.average_precision[round_] == pytest.approx(averages)
    bounded = np.clip(given, 1e-7, 1)
    assert figures.loss[round_] == pytest.approx(-np.log(bounded[np.arange(len(true)), true]).mean())


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    tables = Sample(TARGETS, PROBABILITIES, "softmax").confusion(WEIGHTS)
    for round_ in EVERY_ROUND:
        given = PROBABILITIES[rows(round_)].argmax(axis=1)
        assert tables[round_].tolist() == metrics.confusion_matrix(TARGETS[rows(round_)], given).tolist()


def test_the_calibration_error_is_that_of_its_definition(figures: Figures) -> None:
    for round_ in EVERY_ROUND:
        given, true = PROBABILITIES[rows(round_)], TARGETS[rows(round_)]
        sure, right = given.max(axis=1), given.argmax(axis=1) == true
        error = 0.0
        for index in range(BINS):
            held = (sure >= index / BINS) & (sure < (index + 1) / BINS) if index < BINS - 1 else sure >= index / BINS
            if held.any():
                error += held.mean() * abs(right[held].mean() - sure[held].mean())
        assert figures.calibration_error[round_] == pytest.approx(error)


def test_flagging_counts_the_films_at_or_above_the_threshold() -> None:
    flagging = Sample(TARGETS, PROBABILITIES, "softmax").flagging(WEIGHTS, [None, 0.25, 0.4])
    assert np.isnan(flagging.sensitivity[:, 0]).all()
    assert np.isnan(flagging.flagged[:, 0]).all()
    for round_ in EVERY_ROUND:
        for index, threshold in ((1, 0.25), (2, 0.4)):
            flags, true = PROBABILITIES[rows(round_), index] >= threshold, TARGETS[rows(round_)] == index
            assert flagging.sensitivity[round_, index] == pytest.approx(flags[true].mean())
            assert flagging.specificity[round_, index] == pytest.approx(1 - flags[~true].mean())
            assert flagging.flagged[round_, index] == pytest.approx(flags.mean())
            assert flagging.predictive_value[round_, index] == pytest.approx(true[flags].mean())


def test_a_label_without_films_has_no_figure_and_does_not_count() -> None:
    targets = np.array([0, 0, 1, 1])
    given = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    figures = Sample(targets, given, "softmax").figures(np.ones((1, 4)))
    for of_label in (figures.auroc, figures.precision, figures.recall, figures.f1):
        assert np.isnan(of_label[0]).tolist() == [False, False, True]
    assert figures.macro_f1[0] == pytest.approx(metrics.f1_score(targets, [0, 2, 1, 0], labels=[0, 1], average="macro"))
    assert figures.macro_auroc[0] == pytest.approx(figures.auroc[0, :2].mean())


def test_a_label_that_no_film_was_given_has_no_precision() -> None:
    figures = Sample(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), "softmax").figures(np.ones((1, 2)))
    assert np.isnan(figures.precision[0, 1])
    assert (figures.recall[0, 1], figures.f1[0, 1]) == (0, 0)


def test_the_loss_of_sigmoids_is_the_mean_over_the_labels() -> None:
    figures = Sample(np.array([1]), np.array([[0.3, 0.8]]), "sigmoid").figures(np.ones((1, 1)))
    assert figures.loss[0] == pytest.approx(-(np.log(0.7) + np.log(0.8)) / 2)


def test_pieces_do_not_change_the_figures(figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.figures.PIECE", 4 * N)
    pieces = Sample(TARGETS, PROBABILITIES, "softmax").figures(WEIGHTS)
    assert pieces.auroc == pytest.approx(figures.auroc)
    assert pieces.accuracy.shape == figures.accuracy.shape


def test_films_of_a_patient_are_drawn_together() -> None:
    weights = patient_weights(["b", "a", "b", "c", "a"], 40, 3)
    assert weights.shape == (41, 5)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(weights[1:], axis=0)) > 5


def test_what_patients_are_called_does_not_matter() -> None:
    assert (patient_weights(["z", "a", "z"], 9, 1) == patient_weights(["1", "2", "1"], 9, 1)).all()


def test_one_patient_has_no_interval() -> None:
    weights = patient_weights(["a", "a"], 50, 0)
    assert weights.tolist() == [[1, 1]]
    assert interval(np.array([0.5])).model_dump() == {"value": 0.5, "low": None, "high": None}


def test_an_interval_says_nothing_where_most_rounds_could_not_tell() -> None:
    nan = np.nan
    assert interval(np.array([nan, 0.1, 0.2])).value is None
    assert interval(np.array([0.5, nan, nan, 0.2])).low is None
    told = interval(np.array([0.5, nan, 0.25, 0.75]))
    assert (told.low, told.high) == (pytest.approx(0.2625), pytest.approx(0.7375))
