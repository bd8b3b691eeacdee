"""Training recipes by name: a network, its preprocessing, its labels and the hyper-parameters it is trained with."""

from models.errors import RecipeError
from models.training.recipes.covid import COVID_CT_MLP, COVID_CXR_VGG16, COVID_PNEUMONIA_MLP
from models.training.recipes.flagships import CHEST_CT_COVID, CHEST_XRAY_SQUEEZENET, CHEST_XRAY_TRIAGE
from models.training.recipes.pneumonia import PNEUMONIA_SMALL_VGG
from models.training.recipes.recipe import Build, LabelPlan, TrainingRecipe
from models.training.recipes.tuberculosis import TUBERCULOSIS_CNN, TUBERCULOSIS_VGG16

__all__ = ["CHEST_XRAY_TRIAGE", "TRAINING_RECIPES", "Build", "LabelPlan", "TrainingRecipe", "find_recipe"]

TRAINING_RECIPES: dict[str, TrainingRecipe] = {
    recipe.name: recipe
    for recipe in (
        CHEST_XRAY_TRIAGE,
        CHEST_XRAY_SQUEEZENET,
        CHEST_CT_COVID,
        COVID_CT_MLP,
        COVID_CXR_VGG16,
        COVID_PNEUMONIA_MLP,
        TUBERCULOSIS_CNN,
        TUBERCULOSIS_VGG16,
        PNEUMONIA_SMALL_VGG,
    )
}


def find_recipe(name: str) -> TrainingRecipe:
    """Return the training recipe of that name.

    Raises
    ------
    RecipeError
        If there is none; naming those there are.
    """
    if name not in TRAINING_RECIPES:
        raise RecipeError(f"there is no training recipe {name!r}; there are: {', '.join(sorted(TRAINING_RECIPES))}")
    return TRAINING_RECIPES[name]
