"""The project's own classifiers: what helps, from wherever it was published."""

from dataclasses import replace
from typing import Any

from models.architectures import efficientnet_lite, squeezenet
from models.architectures.weights import BackboneWeights
from models.card import Input
from models.training.hyperparameters import HyperParameters
from models.training.recipes.articles import LUNG_WINDOW
from models.training.recipes.labels import COVID, NON_COVID, NORMAL, PNEUMONIA, TUBERCULOSIS
from models.training.recipes.recipe import TrainingRecipe


def _efficientnet(rows: int, columns: int, channels: int, units: int, backbone_weights: BackboneWeights) -> Any:
    return efficientnet_lite.build(rows, columns, channels, units, backbone_weights)


def _squeezenet(rows: int, columns: int, channels: int, units: int, backbone_weights: BackboneWeights) -> Any:
    return squeezenet.build(rows, columns, channels, units, backbone_weights=backbone_weights)


EFFICIENTNET = (
    "Tan, Le, EfficientNet, ICML 2019; Liu, EfficientNet-Lite, TensorFlow Blog, 2020: Lite0, its first five stages"
)


HYPER_PARAMETERS = HyperParameters(
    epochs=20,
    batch_size=32,
    learning_rate=6e-4,
    patience=8,
    optimizer="adamw",
    weight_decay=1e-3,
    clip_norm=1.0,
    schedule="cosine",
    warmup_epochs=1.0,
    label_smoothing=0.05,
    mixup=0.2,
    average_decay=0.98,
    balance="sources",
    augmentation="triage",
)

CHEST_XRAY_TRIAGE = TrainingRecipe(
    name="chest_xray_triage",
    title="Chest film: normal, pneumonia, COVID-19 or tuberculosis",
    architecture="efficientnet_lite",
    reference=EFFICIENTNET,
    build=_efficientnet,
    preprocessing="chest_xray_triage",
    input=Input(rows=224, columns=224, channels=1),
    output="softmax",
    labels=(NORMAL, PNEUMONIA, COVID, TUBERCULOSIS),
    frame_policy="first",
    hyper_parameters=HYPER_PARAMETERS,
    rollup="max",
    sensitivity=0.90,
    highest_threshold=0.5,
    default_for=("CR", "DX", "RG"),
    intended_use=(
        "Sorting the reading worklist: frontal chest films that look like pneumonia, COVID-19 or tuberculosis are shown"
        " to the radiologist sooner. Every film is still read by a radiologist."
    ),
    not_for=(
        "Diagnosis, or any decision about a patient without a radiologist.",
        "Ruling a disease out: a film that is not flagged is not a normal film.",
        "Lateral films, other body regions, CT, photographs of films.",
        "Any disease other than the three named (pneumothorax, effusion, nodules, fractures are not looked for).",
    ),
    limitations=(
        "Expect the network to recognise, in part, where a film comes from instead of what it shows, and to fall far on"
        " films of other hospitals; measure it on your own films before anybody relies on it.",
    ),
)

CHEST_XRAY_SQUEEZENET = replace(
    CHEST_XRAY_TRIAGE,
    name="chest_xray_squeezenet",
    title="Chest film: normal, pneumonia, COVID-19 or tuberculosis, by the network that was the first",
    architecture="squeezenet",
    reference="Iandola et al., SqueezeNet, arXiv:1602.07360 (2016), version 1.1",
    build=_squeezenet,
    hyper_parameters=replace(HYPER_PARAMETERS, epochs=24, learning_rate=3e-4, weight_decay=1e-4, mixup=0.0),
    default_for=(),
)
"""What the flagship is measured against: the same films, augmentation and balance, and every weight trained."""

CHEST_CT_COVID = TrainingRecipe(
    name="chest_ct_covid",
    title="Chest CT: COVID-19 or not",
    architecture="efficientnet_lite",
    reference=EFFICIENTNET,
    build=_efficientnet,
    preprocessing="chest_ct_covid",
    input=Input(rows=224, columns=224, channels=1),
    output="softmax",
    labels=(NON_COVID, COVID),
    frame_policy="middle",
    hyper_parameters=HYPER_PARAMETERS,
    rollup="top_tenth",
    sensitivity=0.90,
    highest_threshold=0.5,
    default_for=("CT",),
    intended_use=(
        "Sorting the reading worklist: CT of the chest, shown in the lung window, that looks like COVID-19 is shown to"
        " the radiologist sooner. Every study is still read by a radiologist."
    ),
    not_for=(
        "Diagnosis, or any decision about a patient without a radiologist.",
        "Ruling COVID-19 out: a study that is not flagged may show it.",
        "Chest films, other body regions, slices without lung.",
        "Any other disease: pneumonia of another cause may well be called COVID-19, and nothing else is looked for.",
    ),
    limitations=(
        "Expect the network to recognise, in part, where a slice comes from instead of what it shows, and to fall far"
        " on scanners and reconstructions of other hospitals; measure it on your own before anybody relies on it.",
        "It looks at one slice at a time and knows nothing of its neighbours.",
        "Thresholds were chosen slice by slice, but a series is flagged by the mean of its highest tenth: how often a"
        " study with the finding is flagged was not measured.",
    ),
    window=LUNG_WINDOW,
)
