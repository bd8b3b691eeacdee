"""Settings of the login to the worklist and its JSON interface."""

from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from worker.accounts.permissions import Role
from worker.config.values import checked_network, split_commas

LEAST_TOKEN = 20


class LoginSettings(BaseSettings):
    """Who gets in, and for how long; a part of `Settings`."""

    api_token: SecretStr | None = Field(
        None, description="machines that send it as `Authorization: Bearer` read the JSON interface"
    )
    session_idle_minutes: Annotated[float, Field(gt=0)] = Field(
        60.0, description="a login ends when nobody did anything for so long (a page that refreshes itself is nobody)"
    )
    session_hours: Annotated[float, Field(gt=0)] = Field(12.0, description="a login ends after so long in any case")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses or networks of proxies whose X-Forwarded-For and -Proto are believed, comma-separated",
    )
    oidc_issuer: str = Field("", description="OpenID Connect provider, as its discovery document names itself")
    oidc_client_id: str = Field("", description="our client ID there")
    oidc_client_secret: SecretStr | None = Field(None, description="our client secret there")
    oidc_client_secret_file: Path | None = Field(None, description="a file that holds it, instead")
    oidc_role_claim: str = Field(
        "groups", description="claim that says the role; dots lead into it: realm_access.roles"
    )
    oidc_roles: Annotated[tuple[tuple[str, Role], ...], NoDecode] = Field(
        (), description="VALUE=role, comma-separated: values of that claim and what they are here; first match wins"
    )
    oidc_name_claim: str = Field("preferred_username", description="claim that says the name in the audit trail")

    @field_validator("api_token", mode="after")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < LEAST_TOKEN:
            raise ValueError(
                f"a token has at least {LEAST_TOKEN} characters; `openssl rand -base64 32` makes a good one"
            )
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _proxy_list(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("trusted_proxies", mode="after")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_network(part) for part in value)

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def _role_list(cls, value: Any) -> Any:
        parts = split_commas(value)
        if not isinstance(parts, (tuple, list)) or not all(isinstance(part, str) for part in parts):
            return parts  # a list of strings in firstread.toml: values with commas, as LDAP's names, go there
        return tuple(_role(part) for part in parts)

    @model_validator(mode="after")
    def _provider_is_whole(self) -> Self:
        if not self.oidc_issuer:
            return self
        issuer = urlsplit(self.oidc_issuer)
        if issuer.scheme != "https" and not (issuer.scheme == "http" and issuer.hostname in _THIS_MACHINE):
            raise ValueError("FIRSTREAD_OIDC_ISSUER: it begins with https:// (http:// is for this machine alone)")
        for name in ("oidc_client_id", "oidc_roles"):
            if not getattr(self, name):
                raise ValueError(f"FIRSTREAD_{name.upper()} is needed where FIRSTREAD_OIDC_ISSUER is set")
        if (self.oidc_client_secret is None) == (self.oidc_client_secret_file is None):
            raise ValueError("FIRSTREAD_OIDC_CLIENT_SECRET or FIRSTREAD_OIDC_CLIENT_SECRET_FILE: set one of them")
        return self

    def client_secret(self) -> str:
        """Return the client secret, from the setting or the file; empty where there is no provider.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        if self.oidc_client_secret_file is not None:
            return self.oidc_client_secret_file.read_text(encoding="utf-8").strip()
        return "" if self.oidc_client_secret is None else self.oidc_client_secret.get_secret_value()


_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def _role(part: str) -> tuple[str, Role]:
    value, equals, role = (piece.strip() for piece in part.rpartition("="))
    if not equals or not value or role not in set(Role):
        raise ValueError(f"{part!r} is not VALUE=role; roles are {', '.join(Role)}")
    return value, Role(role)
