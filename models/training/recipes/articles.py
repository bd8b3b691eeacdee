"""What the recipes of the articles say alike on their cards, and decide alike."""

from models.card import Window

INTENDED_USE = (
    "Comparing a published network with others on the same films, and a beginning for a network of your own. It is"
    " chosen for no modality by itself; where somebody chooses it, every film is still read by a radiologist."
)

NOT_FOR_FILMS = (
    "Diagnosis, or any decision about a patient without a radiologist.",
    "Ruling a disease out: a film that is not flagged is not a normal film.",
    "Lateral films, other body regions, CT, photographs of films.",
)

NOT_FOR_SLICES = (
    "Diagnosis, or any decision about a patient without a radiologist.",
    "Ruling COVID-19 out: a study that is not flagged may show it.",
    "Chest films, other body regions, slices without lung.",
)

TWO_LABELS = (
    "The network knows two answers: whatever else a film shows is called one of them, and other diseases of the lung"
    " may well be called this one."
)

LEARNS_THE_SOURCE = (
    "Expect the network to recognise, in part, where a film comes from instead of what it shows, and to fall far on"
    " films of other hospitals; measure it on your own films before anybody relies on it."
)

PIXELS_ALONE = (
    "Every pixel has a weight of its own, and none knows its neighbours: an image shifted, turned or zoomed by a little"
    " is another image to it."
)

FROZEN_BACKBONE = (
    "The convolutions are as they began, made for photographs (ImageNet) or by chance (`initial_weights` says which);"
    " only what follows them has learnt from films."
)

LUNG_WINDOW = Window(centre=-600, width=1500)
"""The window in which lungs are read, and in which most slices in print are shown."""

SENSITIVITY = 0.90
HIGHEST_THRESHOLD = 0.5
"""An article flags above 0.5; here a threshold is chosen for its sensitivity, and is never above that."""
