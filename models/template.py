"""A card to start from: everything filled in that a training recipe knows, the rest said in words to be replaced."""

import json

from models.own import TODO
from models.training.recipes import TrainingRecipe, find_recipe

THRESHOLD = 0.5


def card_template(recipe: str) -> str:
    """Write the card of a model like a recipe's, without hashes, for `models pack`.

    Parameters
    ----------
    recipe
        Name of a training recipe whose input, preprocessing, output and labels the model shares.

    Returns
    -------
    str
        JSON; every text that begins with `TODO` has to be replaced before the card is taken.

    Raises
    ------
    RecipeError
        If there is no recipe of that name; naming those there are.
    """
    plan = find_recipe(recipe)
    values = {
        "format": 1,
        "name": "my_model",
        "version": "1.0.0",
        "title": f"{TODO}: what it tells apart, in a line",
        "input": plan.input.model_dump(),
        "recipe": plan.preprocessing,
        "window": plan.window.model_dump() if plan.window else None,
        "frame_policy": plan.frame_policy,
        "output": plan.output,
        "labels": _labels(plan),
        "rollup": plan.rollup,
        "triage_rule": "A finding is flagged at or above its threshold, each for itself, and then has the priority of"
        " the last of its steps that its probability reaches; a study has the most pressing priority of its findings.",
        "threshold_rule": f"{TODO}: on which images the thresholds were chosen, and for which sensitivity",
        "temperature": 1.0,
        "tolerance": 0.001,
        "default_for": list(plan.default_for),
        "intended_use": f"{TODO}: for whom and for what, and who still reads every film",
        "not_for": [
            "Diagnosis, or any decision about a patient without a radiologist.",
            f"{TODO}: other films, patients and diseases that it has not been measured on",
        ],
        "limitations": [f"{TODO}: on which films it was trained and measured, and what may mislead it"],
    }
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _labels(plan: TrainingRecipe) -> list[dict[str, object]]:
    """Labels in the order of the outputs, each finding with a threshold in the middle until one was chosen."""
    labels: list[dict[str, object]] = []
    for label in plan.labels:
        if label.code is None:
            labels.append({"name": label.name, "finding": False})
            continue
        steps = [{"at_least": THRESHOLD, "priority": label.at_threshold}]
        steps += [{"at_least": at, "priority": priority} for at, priority in label.later_steps]
        labels.append({
            "name": label.name, "finding": True, "code": label.code.model_dump(), "threshold": THRESHOLD,
            "triage": steps,
        })  # fmt: skip
    return labels
