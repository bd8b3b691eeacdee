"""An article on pneumonia: a small network after VGG."""

from models.architectures import pneumonia_small_vgg
from models.card import Input
from models.training.hyperparameters import HyperParameters
from models.training.recipes import articles
from models.training.recipes.labels import NORMAL, PNEUMONIA
from models.training.recipes.recipe import TrainingRecipe

PNEUMONIA_SMALL_VGG = TrainingRecipe(
    name="pneumonia_small_vgg",
    title="Chest film: pneumonia or normal (small network after VGG)",
    architecture="pneumonia_small_vgg",
    reference="Image Classification of X-Ray Scans, Towards Data Science, 25 May 2020",
    build=pneumonia_small_vgg.build,
    preprocessing="unit_range",
    input=Input(rows=300, columns=300, channels=1),
    output="binary",
    labels=(NORMAL, PNEUMONIA),
    frame_policy="first",
    hyper_parameters=HyperParameters(
        epochs=60,
        batch_size=32,  # Keras's own; the article names none
        learning_rate=1e-4,
        patience=10,  # early stopping, which the article recommends: its accuracy levels out 10 epochs before the end
        optimizer="adam",
        augmentation="article",
    ),
    rollup="max",
    sensitivity=articles.SENSITIVITY,
    highest_threshold=articles.HIGHEST_THRESHOLD,
    default_for=(),
    intended_use=articles.INTENDED_USE,
    not_for=articles.NOT_FOR_FILMS,
    limitations=(articles.TWO_LABELS, articles.LEARNS_THE_SOURCE),
    published="Accuracy .921 on 624 test films, of children of one to five years of one hospital.",
)
