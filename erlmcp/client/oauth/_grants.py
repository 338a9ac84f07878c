"""The ways to a token, as configuration: each is a frozen value, and `erlmcp.client.oauth.Authorization` runs it.

Nothing here does anything; what is wrong with a value is said when it is made.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._urls import check_endpoint, is_loopback

Supplier = Callable[[], str | Awaitable[str]]
"""Gives a credential each time one is needed: it may be read from a file, or asked of a service."""

AssertionSupplier = Callable[[str], str | Awaitable[str]]
"""Gives a signed JWT for an audience, which is the issuer identifier of the authorization server."""

AuthMethod = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
"""How a client shows who it is at the token endpoint (OpenID Connect Core section 9)."""

CLIENT_CREDENTIALS_EXTENSION = "io.modelcontextprotocol/oauth-client-credentials"
ENTERPRISE_EXTENSION = "io.modelcontextprotocol/enterprise-managed-authorization"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with which a client signs its assertions (RFC 7523 section 2.2).

    Attributes:
        pem: the key, PEM (PKCS 8, or the older forms of RSA and EC keys).
        algorithm: the JWS algorithm; by default what fits the key and the server: ES256, ES384, ES512, PS256, RS256,
            Ed25519 or EdDSA.
        key_id: the ``kid`` under which the authorization server knows it, if it has several.
    """

    pem: str = field(repr=False)
    algorithm: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What all ways have in common.

    Attributes:
        scopes: asked for in any case, beside what the server demands. Without them the server's challenge decides,
            and without a challenge what its metadata list.
        dpop: whether tokens are bound to a key of ours (RFC 9449): always, never, or, with None, where the server
            asks for it. With True a token that is not bound is refused.
        issuer: the authorization server that is meant, where the server names several, or where a client id is only
            good for one.
    """

    scopes: tuple[str, ...] = ()
    dpop: bool | None = None
    issuer: str = ""
    extension: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class AuthorizationCode(Grant):
    """A user agrees in a browser: authorization code with PKCE.

    Which client this is, is decided as the specification of 2026-07-28 orders it (client registration): a
    pre-registered id, else a Client ID Metadata Document, else dynamic registration.

    Attributes:
        client_id: of a client that is registered with the authorization server; it is bound to the issuer that it
            was first used with, or to `issuer`.
        client_secret: what belongs to it, for a confidential client.
        client_metadata_url: an https URL with a path, where the client's own metadata are found.
        redirect_uri: where the browser comes back to. Without one the `Interaction` says it.
        client_name: how a dynamically registered client is called.
        application_type: ``native`` or ``web``; by default what fits the redirect URI.
        key: signs assertions instead of a secret, where the authorization server takes them.
        offline: ask for ``offline_access`` where the authorization server offers it, and so for a refresh token.
    """

    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    client_metadata_url: str = ""
    redirect_uri: str = ""
    client_name: str = "erlmcp"
    application_type: Literal["", "native", "web"] = ""
    auth_method: AuthMethod | None = None
    key: SigningKey | None = None
    offline: bool = True

    def __post_init__(self) -> None:
        if self.client_secret and not self.client_id:
            raise ValueError("client_secret without client_id: a secret belongs to one client")
        if self.client_metadata_url:
            parts = urlsplit(self.client_metadata_url)
            if parts.scheme != "https" or parts.path in ("", "/") or parts.fragment:
                raise ValueError(
                    f"client_metadata_url {self.client_metadata_url!r}: expected an https URL with a path, "
                    "such as https://app.example.com/client.json"
                )
        if self.redirect_uri:
            check_redirect_uri(self.redirect_uri)


@dataclass(frozen=True, slots=True)
class ClientCredentials(Grant):
    """The client acts for itself, with a secret or with a key (SEP-1046)."""

    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    key: SigningKey | None = None
    auth_method: AuthMethod | None = None
    extension: ClassVar[str] = CLIENT_CREDENTIALS_EXTENSION

    def __post_init__(self) -> None:
        if not self.client_id:
            raise ValueError("client credentials need a client_id")
        if bool(self.client_secret) == (self.key is not None):
            raise ValueError("client credentials need a client_secret or a key, one of the two")


@dataclass(frozen=True, slots=True)
class EnterpriseManaged(Grant):
    """The enterprise's identity provider decides (SEP-990).

    Its ID token is exchanged for an assertion (an ID-JAG) for the server's authorization server, and that for a token.

    Attributes:
        id_token: gives the user's ID token, whenever one is needed.
        idp_token_endpoint: where it is exchanged; found from `idp_issuer` if it is not given.
        idp_client_id: the client's name at the identity provider.
        client_id: the client's name at the server's authorization server.
    """

    id_token: Supplier | None = field(default=None, repr=False)
    idp_client_id: str = ""
    idp_client_secret: str = field(default="", repr=False)
    idp_issuer: str = ""
    idp_token_endpoint: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    key: SigningKey | None = None
    auth_method: AuthMethod | None = None
    extension: ClassVar[str] = ENTERPRISE_EXTENSION

    def __post_init__(self) -> None:
        if self.id_token is None:
            raise ValueError("enterprise-managed authorization needs an id_token supplier")
        if not self.client_id or not self.idp_client_id:
            raise ValueError("enterprise-managed authorization needs a client_id and an idp_client_id")
        if not self.idp_token_endpoint and not self.idp_issuer:
            raise ValueError("enterprise-managed authorization needs an idp_issuer or an idp_token_endpoint")
        for name, url in (("idp_token_endpoint", self.idp_token_endpoint), ("idp_issuer", self.idp_issuer)):
            if url:
                _check_configured(url, name)


@dataclass(frozen=True, slots=True)
class WorkloadIdentity(Grant):
    """A workload shows the JWT that its platform gave it (SEP-1933; RFC 7523 section 2.1).

    Attributes:
        assertion: gives the JWT for an audience.
        client_id: sent beside it, where the authorization server wants one.
    """

    assertion: AssertionSupplier | None = field(default=None, repr=False)
    client_id: str = ""

    def __post_init__(self) -> None:
        if self.assertion is None:
            raise ValueError("workload identity needs an assertion supplier")


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that somebody else has got. A supplier is asked again when the server refuses what it gave."""

    token: str | Supplier = field(repr=False)
    extension: ClassVar[str] = ""


AnyGrant = AuthorizationCode | ClientCredentials | EnterpriseManaged | WorkloadIdentity | StaticToken


def _check_configured(url: str, name: str) -> None:
    try:
        check_endpoint(url, name)
    except AuthorizationError as error:
        raise ValueError(str(error)) from None


def check_redirect_uri(uri: str) -> None:
    """Raise `ValueError` unless the URI is https, http on the loopback, or a native application's own scheme."""
    parts = urlsplit(uri)
    if parts.fragment:
        raise ValueError(
            f"redirect_uri {uri!r} has a fragment: a redirect URI must not (RFC 6749 section 3.1.2)"
        )
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and is_loopback(parts.hostname):
        return
    if "." in parts.scheme:  # RFC 8252 section 7.1: a reversed domain name
        return
    raise ValueError(
        f"redirect_uri {uri!r}: expected https, http on the loopback, or a scheme of the application's own "
        "such as com.example.app:/callback"
    )


def application_type(grant: AuthorizationCode, redirect_uri: str) -> str:
    """What dynamic registration says the client is (OpenID Connect Dynamic Client Registration 1.0 section 2)."""
    if grant.application_type:
        return grant.application_type
    parts = urlsplit(redirect_uri)
    return "web" if parts.scheme == "https" and not is_loopback(parts.hostname or "") else "native"
