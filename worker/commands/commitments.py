"""Storage commitment: who asked us to answer for what, and who answers for our reports."""

from typing import Annotated

import typer

from worker import bootstrap
from worker.commands.output import complain, print_json, print_table, say
from worker.commitment.view import requests_of_ours, requests_of_peers
from worker.config import load_settings


def commitments(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each, the newest.")] = 100,
) -> None:
    """Show storage commitment: what peers asked of us and were told, and what we asked of the destinations."""
    database = bootstrap.open_database(load_settings())
    with database.read() as session:
        theirs, ours = requests_of_peers(session, limit), requests_of_ours(session, limit)
    if as_json:
        print_json({"requests": theirs, "asked": ours})
        return
    if not theirs and not ours:
        say("storage commitment: none, neither asked of us nor by us")
        return
    print_table(
        "asked of us",
        ("status", "by", "received", "instances", "failed", "attempts", "transaction"),
        (
            (
                one["status"],
                one["calling_ae"],
                one["received_at"],
                one["instances"],
                "not checked yet" if one["failed"] is None else one["failed"],
                one["attempts"],
                one["transaction_uid"],
            )
            for one in theirs
        ),
        whole=("received", "transaction"),
    )
    print_table(
        "asked by us",
        ("status", "of", "asked", "report", "failure"),
        (
            (one["status"], one["destination"], one["asked_at"], one["sop_instance_uid"], one["failure"] or "")
            for one in ours
        ),
        whole=("asked", "report"),
    )
    for one in theirs:
        if one["last_error"]:
            complain(f"{one['transaction_uid']}: {one['last_error']}")
