"""`firstread users` and `firstread tokens`: who may look, people and machines."""

import sys
from datetime import timedelta
from typing import Annotated

import typer

from worker import bootstrap, front_door
from worker.accounts import passwords
from worker.accounts.permissions import Role
from worker.accounts.tokens import Tokens
from worker.accounts.users import User, Users, checked_name
from worker.audit.log import operator, record
from worker.commands.output import counted, print_json, print_table, say, tell
from worker.config import load_settings
from worker.errors import AccountError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Name of the account; upper and lower case are the same.")]
Generate = Annotated[
    bool,
    typer.Option(
        "--generate", help="Make a password and show it, once; else it is asked for, or read from standard input."
    ),
]

users = typer.Typer(no_args_is_help=True, help="People who may log in to the worklist.")
tokens = typer.Typer(no_args_is_help=True, help="Tokens with which machines read the JSON interface.")


def _users() -> Users:
    return Users(bootstrap.open_database(load_settings()), record, actor=operator())


def _password(generate: bool) -> str:
    """Return a new password: made here, asked for twice on a terminal, else the first line of standard input."""
    if generate:
        return passwords.generate()
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    line = sys.stdin.readline()
    if not line:
        raise AccountError("no password came on standard input; pipe one in, or say --generate")
    return line.rstrip("\r\n")


def _show(user: User, done: str, *, as_json: bool, password: str | None = None) -> None:
    if as_json:
        print_json(user.as_json() | ({} if password is None else {"password": password}))
        return
    say(f"{user.name} ({user.role}): {done}")
    if password is not None:
        say(f"  password: {password}")
        tell("It is kept nowhere: note it now.")


@users.command("add")
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the account may see.")],
    generate: Generate = False,
    as_json: AsJson = False,
) -> None:
    """Make an account; its password is never an argument."""
    checked_name(name)
    password = _password(generate)
    _show(_users().add(name, role, password), "added", as_json=as_json, password=password if generate else None)


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List the accounts."""
    found = [user.as_json() for user in _users().listed()]
    if as_json:
        print_json(found)
        return
    columns = ("name", "role", "logs in by", "enabled", "since", "last login")
    keys = ("name", "role", "kind", "enabled", "created_at", "last_login_at")
    rows = (["yes" if one[key] is True else "no" if one[key] is False else one[key] for key in keys] for one in found)
    print_table(counted(len(found), "account"), columns, rows, whole=("since", "last login"))


@users.command("disable")
def disable(name: Name, as_json: AsJson = False) -> None:
    """Let nobody in with an account any more; its sessions end at once."""
    _show(_users().disable(name), "disabled", as_json=as_json)


@users.command("enable")
def enable(name: Name, as_json: AsJson = False) -> None:
    """Let an account in again, and forget its failed logins."""
    _show(_users().enable(name), "enabled", as_json=as_json)


@users.command("passwd")
def passwd(name: Name, generate: Generate = False, as_json: AsJson = False) -> None:
    """Give an account a new password; its sessions end at once."""
    password = _password(generate)
    shown = password if generate else None
    _show(_users().change_password(name, password), "has a new password", as_json=as_json, password=shown)


@users.command("link")
def link(as_json: AsJson = False) -> None:
    """Print a link that logs in once, here, with every permission: for the first look, or when locked out."""
    settings = load_settings()
    address = front_door.login_link(settings, bootstrap.open_database(settings), actor=operator())
    if as_json:
        print_json({"login_link": address})
        return
    say(address)
    tell("It opens the worklist once, within 15 minutes, from this machine alone.")


@tokens.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    role: Annotated[Role, typer.Option(help="What it may see.")] = Role.RADIOLOGIST,
    days: Annotated[int, typer.Option(min=0, max=3650, help="Valid so long; 0: until it is revoked.")] = 365,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it, once."""
    made, secret = _tokens().add(name, role, timedelta(days=days) if days else None)
    if as_json:
        print_json(made.as_json() | {"token": secret})
        return
    say(secret)
    until = f"until {made.expires_at:%Y-%m-%d}" if made.expires_at else "until it is revoked"
    tell(f"{made.name} ({made.role}), valid {until}. The token is kept nowhere: note it now.")


@tokens.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens; not their secrets, which are kept nowhere."""
    found = [token.as_json() for token in _tokens().listed()]
    if as_json:
        print_json(found)
        return
    keys = ("name", "role", "state", "created_at", "expires_at")
    rows = ([one[key] for key in keys] for one in found)
    print_table(
        counted(len(found), "token"), ("name", "role", "state", "since", "until"), rows, whole=("since", "until")
    )


@tokens.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="As `tokens list` shows it.")], as_json: AsJson = False) -> None:
    """Let nothing in with a token any more."""
    token = _tokens().revoke(name)
    if as_json:
        print_json(token.as_json())
    else:
        say(f"{token.name}: revoked")


def _tokens() -> Tokens:
    return Tokens(bootstrap.open_database(load_settings()), record, actor=operator())
