"""The labels that the recipes share: SNOMED CT codes, and how pressing each finding is."""

from models.card import Code
from models.training.recipes.recipe import LabelPlan

NORMAL = LabelPlan("normal")
NON_COVID = LabelPlan("non-covid")
PNEUMONIA = LabelPlan(
    "pneumonia", Code(scheme="SCT", value="233604007", meaning="Pneumonia"), "routine", ((0.85, "urgent"),)
)
COVID = LabelPlan("covid", Code(scheme="SCT", value="840539006", meaning="COVID-19"), "urgent")
TUBERCULOSIS = LabelPlan("tuberculosis", Code(scheme="SCT", value="56717001", meaning="Tuberculosis"), "urgent")
