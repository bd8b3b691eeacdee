"""`firstread models card` and `firstread models pack`: a model of one's own, made into a package."""

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.model_common import Json, explained, model_settings
from worker.commands.output import print_json, say


def template(
    recipe: Annotated[
        str, typer.Argument(help="A training recipe whose input, preprocessing and labels your model shares.")
    ],
) -> None:
    """Print a card to start from, for a model of your own: replace every text that begins with TODO."""
    from models.template import card_template

    with explained():
        print(card_template(recipe), end="")


def pack(
    network: Annotated[Path, typer.Argument(metavar="NETWORK.keras", help="A Keras model of plain layers.")],
    card_file: Annotated[
        Path, typer.Option("--card", metavar="CARD.json", help="Its card; both SHA-256 may be left out.")
    ],
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder in which <name>/<version>/ is made.")],
    as_json: Json = False,
) -> None:
    """Make a package of your own Keras model: check it against its card, compute its golden pair, hash its files."""
    from models.own import pack_network

    with explained():
        model_settings()
        package = pack_network(network, card_file, output)
    if as_json:
        print_json({"model": package.card.name, "model_version": package.card.version, "path": str(package.path)})
        return
    say(f"{package.identifier} packed: {package.path}")
    say(f"firstread models add {package.path}   installs it")
