"""Wiring of the login at the door: settings in, who may come in out."""

from datetime import timedelta

from worker.accounts.logins import Logins
from worker.accounts.secrets import digest
from worker.accounts.sessions import Lifetime
from worker.audit.log import record
from worker.config import Settings, is_loopback
from worker.database import Database
from worker.errors import SettingsError, StartError
from worker.supervision.addresses import SaidAddresses
from worker.worklist.login.access import Access
from worker.worklist.login.provider import Provider, ProviderSettings


def access(settings: Settings, database: Database) -> Access:
    """Return who may come in to the worklist.

    Raises
    ------
    SettingsError
        The file with the provider's client secret cannot be read.
    """
    return Access(
        _logins(settings, database),
        record,
        loopback=for_this_machine_alone(settings),
        api_token_sha256=digest(settings.api_token.get_secret_value()) if settings.api_token is not None else "",
        provider=_provider(settings),
    )


def for_this_machine_alone(settings: Settings) -> bool:
    """Say whether only this machine reaches the worklist: bound to loopback, with no proxy announced."""
    return is_loopback(settings.web_host) and not settings.trusted_proxies


def login_link(settings: Settings, database: Database, *, actor: str, worklist_url: str | None = None) -> str:
    """Make a link that logs in once, to the worklist that runs here.

    Parameters
    ----------
    worklist_url
        Where it runs; None: as it says itself.

    Raises
    ------
    StartError
        No worklist runs here, or others than this machine reach it.
    """
    if not for_this_machine_alone(settings):
        raise StartError(
            f"FIRSTREAD_WEB_HOST={settings.web_host}: a one-time link is for a worklist on loopback alone, without "
            "proxies; `firstread users add` makes an account"
        )
    url = worklist_url or SaidAddresses(settings.data_dir / "run").worklist_url()
    if url is None:
        raise StartError(f"no worklist runs on {settings.data_dir}; `firstread up` starts one")
    return f"{url}login/link/{_logins(settings, database).new_link(actor=actor)}"


def _logins(settings: Settings, database: Database) -> Logins:
    idle, absolute = timedelta(minutes=settings.session_idle_minutes), timedelta(hours=settings.session_hours)
    return Logins(database, record, Lifetime(idle, absolute))


def _provider(settings: Settings) -> Provider | None:
    if not settings.oidc_issuer:
        return None
    try:
        secret = settings.client_secret()
    except OSError as error:
        file = settings.oidc_client_secret_file
        raise SettingsError(f"FIRSTREAD_OIDC_CLIENT_SECRET_FILE={file}: it cannot be read ({error.strerror})") from None
    return Provider(
        ProviderSettings(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=secret,
            role_claim=settings.oidc_role_claim,
            roles=settings.oidc_roles,
            name_claim=settings.oidc_name_claim,
        )
    )
