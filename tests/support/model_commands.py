"""`firstread models …` in this process: what is called, and films to call it with."""

import json
from typing import Any

import numpy as np
from pydicom import Dataset
from typer.testing import CliRunner, Result

from models.golden import golden_image
from models.registry import Registry
from tests.support.objects import film
from worker.commands.models import app

MODEL = "chest_xray_triage"
SHIPPED_VERSION = Registry().find(MODEL).card.version
LABELS = ["normal", "pneumonia", "covid", "tuberculosis"]


def call(*arguments: object) -> Result:
    """Call a command as on the command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def called(*arguments: object, code: int = 0) -> Any:
    """Call a command with --json; return what it says."""
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def chest(**attributes: Any) -> Dataset:
    """A phantom of a chest film as DX of 12 bits."""
    return film(golden_image(200, 180).astype(np.uint16) * 16, **attributes)
