"""Two approaches of one article on tuberculosis: convolutions from scratch, and VGG16 under a dense head."""

from models.architectures import tuberculosis_cnn, tuberculosis_vgg16, vgg16
from models.card import Input
from models.training.hyperparameters import HyperParameters
from models.training.recipes import articles
from models.training.recipes.labels import NORMAL, TUBERCULOSIS
from models.training.recipes.recipe import TrainingRecipe

ARTICLE = "Image Classification of X-Ray scans using Convolutional Neural Networks"
UNPUBLISHED = "The article gives no figure."

TUBERCULOSIS_CNN = TrainingRecipe(
    name="tuberculosis_cnn",
    title="Chest film: tuberculosis or normal (convolutions from scratch)",
    architecture="tuberculosis_cnn",
    reference=f"{ARTICLE}, first approach",
    build=tuberculosis_cnn.build,
    preprocessing="unit_range",
    input=Input(rows=256, columns=256, channels=1),
    output="sigmoid",
    labels=(NORMAL, TUBERCULOSIS),
    frame_policy="first",
    hyper_parameters=HyperParameters(epochs=30, batch_size=32, learning_rate=1e-3, patience=30, optimizer="adam"),
    rollup="max",
    sensitivity=articles.SENSITIVITY,
    highest_threshold=articles.HIGHEST_THRESHOLD,
    default_for=(),
    intended_use=articles.INTENDED_USE,
    not_for=articles.NOT_FOR_FILMS,
    limitations=(
        "The two probabilities are each for themselves and need not add up to one.",
        articles.TWO_LABELS,
        articles.LEARNS_THE_SOURCE,
    ),
    published=UNPUBLISHED,
)

TUBERCULOSIS_VGG16 = TrainingRecipe(
    name="tuberculosis_vgg16",
    title="Chest film: tuberculosis or normal (VGG16 with a dense head)",
    architecture="tuberculosis_vgg16",
    reference=f"{ARTICLE}, second approach; Simonyan and Zisserman, arXiv:1409.1556 (2014)",
    build=tuberculosis_vgg16.build,
    preprocessing="vgg16_imagenet",
    input=Input(rows=256, columns=256, channels=3),
    output="binary",
    labels=(NORMAL, TUBERCULOSIS),
    frame_policy="first",
    hyper_parameters=HyperParameters(epochs=15, batch_size=32, learning_rate=1e-3, patience=15, optimizer="adam"),
    rollup="max",
    sensitivity=articles.SENSITIVITY,
    highest_threshold=articles.HIGHEST_THRESHOLD,
    default_for=(),
    intended_use=articles.INTENDED_USE,
    not_for=articles.NOT_FOR_FILMS,
    limitations=(articles.FROZEN_BACKBONE, articles.TWO_LABELS, articles.LEARNS_THE_SOURCE),
    head_from=vgg16.LAST,
    default_backbone="imagenet",
    published=UNPUBLISHED,
)
