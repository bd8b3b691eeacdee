"""Three articles on COVID-19: slices of CT in a dense network, films under VGG16, films in a dense network."""

from models.architectures import covid_ct_mlp, covid_cxr_vgg16, covid_pneumonia_mlp
from models.card import Input
from models.training.hyperparameters import HyperParameters
from models.training.recipes import articles
from models.training.recipes.labels import COVID, NON_COVID, NORMAL, PNEUMONIA
from models.training.recipes.recipe import TrainingRecipe

COVID_CT_MLP = TrainingRecipe(
    name="covid_ct_mlp",
    title="Slice of CT: COVID-19 or not (dense network, after O. Gimenez)",
    architecture="covid_ct_mlp",
    reference=(
        "O. Gimenez, Binary image classification using Keras in R: Using CT scans to predict patients with Covid,"
        " R-bloggers"
    ),
    build=covid_ct_mlp.build,
    preprocessing="unit_columns",
    input=Input(rows=100, columns=100, channels=1),
    output="softmax",
    labels=(NON_COVID, COVID),
    frame_policy="middle",
    hyper_parameters=HyperParameters(epochs=25, batch_size=512, learning_rate=1e-3, patience=25, optimizer="adam"),
    rollup="top_tenth",
    sensitivity=articles.SENSITIVITY,
    highest_threshold=articles.HIGHEST_THRESHOLD,
    default_for=(),
    intended_use=articles.INTENDED_USE,
    not_for=articles.NOT_FOR_SLICES,
    limitations=(articles.PIXELS_ALONE, articles.TWO_LABELS, articles.LEARNS_THE_SOURCE),
    published=(
        "Accuracy .861 and loss .280 on 490 slices (176 and 246 right, 68 called COVID-19 that were not, none missed),"
        " with the label among the inputs and slices of one patient on both sides of the split."
    ),
    window=articles.LUNG_WINDOW,
)

COVID_CXR_VGG16 = TrainingRecipe(
    name="covid_cxr_vgg16",
    title="Chest film: COVID-19 or normal (VGG16 with a small head)",
    architecture="covid_cxr_vgg16",
    reference=(
        "Automate the process of detecting COVID-19 cases from chest radiograph images, using convolutional neural"
        " networks, tutorial 2 (2020); Simonyan and Zisserman, arXiv:1409.1556 (2014)"
    ),
    build=covid_cxr_vgg16.build,
    preprocessing="unit_range",
    input=Input(rows=237, columns=237, channels=3),
    output="binary",
    labels=(NORMAL, COVID),
    frame_policy="first",
    hyper_parameters=HyperParameters(epochs=50, batch_size=8, learning_rate=1e-3, patience=50, optimizer="adam"),
    rollup="max",
    sensitivity=articles.SENSITIVITY,
    highest_threshold=articles.HIGHEST_THRESHOLD,
    default_for=(),
    intended_use=articles.INTENDED_USE,
    not_for=articles.NOT_FOR_FILMS,
    limitations=(articles.FROZEN_BACKBONE, articles.TWO_LABELS, articles.LEARNS_THE_SOURCE),
    head_from="pooled",
    default_backbone="imagenet",
    published=(
        "Accuracy .982 and loss .0345 on 55 films: 32 with COVID-19 and 22 normal ones right, 1 with COVID-19 missed;"
        " the normal films are children's, those with COVID-19 mostly adults'."
    ),
)

COVID_PNEUMONIA_MLP = TrainingRecipe(
    name="covid_pneumonia_mlp",
    title="Chest film: COVID-19, normal or other pneumonia (dense network, after H. Shi)",
    architecture="covid_pneumonia_mlp",
    reference="H. Shi, COVID-19 Chest X-Ray Image Classification with Neural Network, Medium, 3 May 2020",
    build=covid_pneumonia_mlp.build,
    preprocessing="unit_range",
    input=Input(rows=100, columns=100, channels=1),
    output="softmax",
    labels=(COVID, NORMAL, PNEUMONIA),
    frame_policy="first",
    hyper_parameters=HyperParameters(
        epochs=50,
        batch_size=50,
        learning_rate=0.01,
        patience=50,
        optimizer="sgd",
        momentum=0.8,
        balance="oversample",
    ),
    rollup="max",
    sensitivity=articles.SENSITIVITY,
    highest_threshold=articles.HIGHEST_THRESHOLD,
    default_for=(),
    intended_use=articles.INTENDED_USE,
    not_for=articles.NOT_FOR_FILMS,
    limitations=(articles.PIXELS_ALONE, articles.LEARNS_THE_SOURCE),
    published=(
        "Accuracy .978 on the training films and .817 on 635 test films, 11 of them with COVID-19 (F1 .98 and .81),"
        " tuned on those test films."
    ),
)
