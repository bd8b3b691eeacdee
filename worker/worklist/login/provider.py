"""Logging in through an OpenID Connect provider: the code flow (OpenID Connect Core 1.0, 3.1), PKCE, state, nonce.

What the provider says of a person counts only from an ID token that it signed for us, in answer to the request that
this browser began.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from authlib.deprecate import AuthlibDeprecationWarning
from fastapi import Request, Response
from itsdangerous import BadData, URLSafeTimedSerializer
from joserfc.errors import JoseError

from worker.accounts.logins import Person
from worker.accounts.permissions import Role
from worker.accounts.secrets import new_secret
from worker.errors import ProviderUnreachable
from worker.worklist.login.cookies import Cookie

with warnings.catch_warnings():  # it would rather have httpx2; with httpx it works as well
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth, OAuthError

FLOW_SECONDS = 600
"""How long somebody may take at the provider."""
SIGNED_WITH = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures of an ID token that only the provider can make: neither `none` nor one with our shared secret."""


class UntrustedAnswerError(Exception):
    """What came back is not the answer to what this browser asked, or names nobody who may come in."""


@dataclass(frozen=True)
class ProviderSettings:
    """A provider, and what its claims mean here.

    Attributes
    ----------
    roles
        Values of the role claim, and the role of each here; the first that matches counts.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    role_claim: str
    roles: Sequence[tuple[str, Role]]
    name_claim: str


class Provider:
    """The provider. Nothing is asked of it before somebody logs in: that it is away keeps nobody else out."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        # The state of a login under way is in the browser, signed; a restart makes whoever is on the way begin again.
        self._signer = URLSafeTimedSerializer(new_secret(), salt="login through a provider")
        self._cookie = Cookie("provider", "lax")
        self._client = OAuth().register(
            "provider",
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid profile email",
                "code_challenge_method": "S256",
                "timeout": 10,
            },
        )

    @property
    def issuer(self) -> str:
        """How the provider names itself."""
        return self._settings.issuer

    async def redirect(self, request: Request, back_to: str, next_path: str) -> Response:
        """Send a browser to the provider.

        Parameters
        ----------
        back_to
            The address of ours that the provider sends it back to; it has to be registered there.
        next_path
            Where it wants to be afterwards.

        Raises
        ------
        ProviderUnreachable
            The provider does not answer, or is another than it was set.
        """
        await self._load()
        flow: dict[str, Any] = {}
        request.scope["session"] = flow
        try:
            response: Response = await self._client.authorize_redirect(request, back_to)
        except httpx.HTTPError as error:
            raise ProviderUnreachable(_away(self.issuer, error)) from error
        self._cookie.put(request, response, self._signer.dumps({"flow": flow, "next": next_path}), seconds=FLOW_SECONDS)
        return response

    async def person(self, request: Request) -> tuple[Person, str]:
        """Return whom the provider vouches for, and where they wanted to be.

        Raises
        ------
        UntrustedAnswerError
            State, nonce, signature, issuer, audience or time are wrong, or no claim of theirs is a role here.
        ProviderUnreachable
            The provider does not answer.
        """
        try:
            begun = self._signer.loads(self._cookie.read(request), max_age=FLOW_SECONDS)
        except BadData as error:
            raise UntrustedAnswerError("no login through the provider is under way in this browser") from error
        request.scope["session"] = begun["flow"]
        metadata = await self._load()
        expected = {
            "iss": {"essential": True, "value": metadata["issuer"]},
            "sub": {"essential": True},
            "aud": {"essential": True, "value": self._settings.client_id},
            "exp": {"essential": True},
        }
        try:
            token = await self._client.authorize_access_token(request, claims_options=expected)
        except httpx.HTTPError as error:
            raise ProviderUnreachable(_away(self.issuer, error)) from error
        except (OAuthError, JoseError, ValueError, KeyError, RuntimeError) as error:
            raise UntrustedAnswerError(f"the provider's answer does not hold ({type(error).__name__})") from error
        claims = token.get("userinfo")
        if not claims:
            raise UntrustedAnswerError("the provider's answer has no ID token")
        return self._person(claims), str(begun["next"])

    def forget(self, request: Request, response: Response) -> None:
        """Have the browser forget the login that was under way."""
        self._cookie.clear(request, response)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        held = _values(claims, self._settings.role_claim)
        role = next((role for value, role in self._settings.roles if value in held), None)
        if role is None:
            raise UntrustedAnswerError(f"no value of the claim {self._settings.role_claim!r} is a role here")
        name = claims.get(self._settings.name_claim) or claims["sub"]
        return Person(self.issuer, str(claims["sub"]), str(name), role)

    async def _load(self) -> Mapping[str, Any]:
        try:
            metadata: dict[str, Any] = await self._client.load_server_metadata()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnreachable(_away(self.issuer, error)) from error
        # OpenID Connect Discovery 1.0, 4.3: the document must name the issuer that it was asked for.
        if str(metadata.get("issuer", "")).rstrip("/") != self.issuer.rstrip("/"):
            raise ProviderUnreachable(
                f"FIRSTREAD_OIDC_ISSUER={self.issuer}: what answers there calls itself {metadata.get('issuer')!r}"
            )
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [name for name in offered if name in SIGNED_WITH]
        return metadata


def _values(claims: Mapping[str, Any], path: str) -> set[str]:
    """Return the values of a claim, one or several; dots lead into objects where no claim has the whole name."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    several = value if isinstance(value, (list, tuple)) else [value]
    return {str(one) for one in several if one is not None}


def _away(issuer: str, error: Exception) -> str:
    return f"the login provider {issuer} does not answer ({type(error).__name__}); log in with a password, or try later"
