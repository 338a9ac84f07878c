"""The ways to a token, one function each: what is sent where, in which order. What is kept, the caller decides."""

import inspect
import json
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from erlmcp.client.oauth._code import accept, check_pkce, code_request
from erlmcp.client.oauth._discovery import Place, find_server
from erlmcp.client.oauth._endpoint import TokenEndpoint
from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetch, post
from erlmcp.client.oauth._grants import (
    AuthorizationCode,
    ClientCredentials,
    EnterpriseManaged,
    WorkloadIdentity,
    check_redirect_uri,
)
from erlmcp.client.oauth._identity import (
    Identity,
    configured_identity,
    read_registration,
    registration_request,
    restore_registration,
)
from erlmcp.client.oauth._interaction import Interaction
from erlmcp.client.oauth._metadata import ServerMetadata
from erlmcp.client.oauth._scopes import with_offline
from erlmcp.client.oauth._signing import ProofKey
from erlmcp.client.oauth._store import CredentialStore, StoreKey
from erlmcp.client.oauth._tokens import Tokens, read_answer

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a type
_ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"
_LOST_CLIENT: Final = ("invalid_client", "unauthorized_client")


@dataclass(frozen=True, slots=True)
class Round:
    """What all ways need of their surroundings.

    Attributes:
        place: where tokens come from.
        scopes: what is to be asked for.
        key: what tokens are to be bound to; None for no binding.
        must_bind: whether others are refused.
    """

    fetch: Fetch
    endpoint: TokenEndpoint
    store: CredentialStore
    interaction: Interaction | None
    place: Place
    scopes: tuple[str, ...]
    key: ProofKey | None
    must_bind: bool
    now: float

    async def tokens(self, identity: Identity, form: dict[str, str], scopes: tuple[str, ...]) -> Tokens:
        """Send a grant to the token endpoint."""
        server = self.place.server
        return await self.endpoint.tokens(server, identity, form, scopes, self.key, must_bind=self.must_bind)


async def supplied(value: str | Awaitable[str]) -> str:
    """What a supplier gave, waited for if need be."""
    given = await value if inspect.isawaitable(value) else value
    return given.strip()


def _with_scope(form: dict[str, str], scopes: tuple[str, ...]) -> dict[str, str]:
    return {**form, "scope": " ".join(scopes)} if scopes else form


async def by_credentials(grant: ClientCredentials, around: Round) -> Tokens:
    """Client credentials (OAuth 2.1 section 4.2)."""
    form = {"grant_type": "client_credentials", "resource": around.place.resource}
    return await around.tokens(
        identity_of(grant, around.place.server), _with_scope(form, around.scopes), around.scopes
    )


async def by_workload(grant: WorkloadIdentity, around: Round) -> Tokens:
    """A JWT of the workload's platform as the grant (RFC 7523 section 2.1). It is tried once: it gets no better."""
    if grant.assertion is None:  # its own check keeps that from happening
        raise AuthorizationError("workload identity without an assertion supplier")
    server = around.place.server
    assertion = await supplied(grant.assertion(server.issuer))
    form = {"grant_type": JWT_BEARER, "assertion": assertion, "resource": around.place.resource}
    return await around.tokens(identity_of(grant, server), _with_scope(form, around.scopes), around.scopes)


async def by_enterprise(grant: EnterpriseManaged, around: Round) -> Tokens:
    """The identity provider's ID token for an ID-JAG (RFC 8693), and that for a token (RFC 7523)."""
    if grant.id_token is None:  # its own check keeps that from happening
        raise AuthorizationError("enterprise-managed authorization without an id_token supplier")
    server = around.place.server
    idp = await _identity_provider(grant, around.fetch)
    exchange = {
        "grant_type": _EXCHANGE,
        "requested_token_type": _ID_JAG,
        "audience": server.issuer,
        "resource": around.place.resource,
        "subject_token": await supplied(grant.id_token()),
        "subject_token_type": _ID_TOKEN,
    }
    client = configured_identity(idp, grant.idp_client_id, grant.idp_client_secret, None, None)
    answer = await around.endpoint.ask(idp, client, _with_scope(exchange, around.scopes), None)
    kind, jag = answer.get("issued_token_type"), answer.get("access_token")
    if kind != _ID_JAG or not isinstance(jag, str) or not jag:
        raise AuthorizationError(
            f"{idp.token_endpoint}: issued_token_type {kind!r}: expected {_ID_JAG} and a token"
        )
    form = {"grant_type": JWT_BEARER, "assertion": jag, "resource": around.place.resource}
    return await around.tokens(identity_of(grant, server), _with_scope(form, around.scopes), around.scopes)


async def _identity_provider(grant: EnterpriseManaged, fetch: Fetch) -> ServerMetadata:
    if grant.idp_token_endpoint:
        return ServerMetadata(issuer=grant.idp_issuer, token_endpoint=grant.idp_token_endpoint)
    found = await find_server(fetch, grant.idp_issuer)
    if found is None or not found.token_endpoint:
        raise AuthorizationError(f"{grant.idp_issuer} has no metadata that name a token_endpoint")
    return found


async def by_code(grant: AuthorizationCode, around: Round) -> Tokens:
    """A user agrees in a browser (OAuth 2.1 section 4.1)."""
    server, interaction = around.place.server, around.interaction
    if interaction is None:
        raise AuthorizationError("a user has to agree in a browser, and there is no way to one here")
    check_pkce(server)
    scopes = with_offline(around.scopes, server.scopes) if grant.offline else around.scopes
    client_key = StoreKey("client", "", server.issuer, "")
    kept = restore_registration(around.store.load(client_key), around.now)
    try:
        redirect_uri = await interaction.prepare(grant.redirect_uri or (kept[1] if kept else ""))
        _check_redirect(redirect_uri, grant)
        identity = await _client(grant, around, redirect_uri, scopes, client_key)
        thumbprint = around.key.thumbprint if around.key else ""
        request = code_request(
            server, identity.client_id, redirect_uri, around.place.resource, scopes, thumbprint
        )
        code = accept(request, await interaction.authorize(request.url, redirect_uri, request.state))
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": request.verifier,
            "resource": around.place.resource,
        }
        return await around.tokens(identity, form, scopes)
    except AuthorizationError as error:
        if error.code in _LOST_CLIENT:
            around.store.forget(client_key)  # the server knows it no more: the next round registers anew
        raise
    finally:
        interaction.done()


def _check_redirect(redirect_uri: str, grant: AuthorizationCode) -> None:
    try:
        check_redirect_uri(redirect_uri)
    except ValueError as error:
        raise AuthorizationError(str(error)) from None
    if grant.redirect_uri and redirect_uri != grant.redirect_uri:
        raise AuthorizationError(
            f"redirect_uri {grant.redirect_uri!r} cannot be waited at, only {redirect_uri!r}"
        )


def _known_client(grant: AuthorizationCode, server: ServerMetadata) -> Identity | None:
    # Client registration: pre-registered, then a metadata document, then dynamic registration.
    if grant.client_id:
        return configured_identity(server, grant.client_id, grant.client_secret, grant.key, grant.auth_method)
    if grant.client_metadata_url and server.takes_documents:
        return configured_identity(server, grant.client_metadata_url, "", grant.key, grant.auth_method)
    return None


async def _client(
    grant: AuthorizationCode, around: Round, redirect_uri: str, scopes: tuple[str, ...], client_key: StoreKey
) -> Identity:
    server = around.place.server
    known = _known_client(grant, server)
    if known is not None:
        return known
    kept = restore_registration(around.store.load(client_key), around.now)
    if kept is not None and kept[1] == redirect_uri:
        return kept[0]
    if not server.registration_endpoint:
        raise AuthorizationError(
            f"{server.issuer} does not register clients by itself: register one there, and set its client_id"
        )
    request = registration_request(server, grant, redirect_uri, scopes, bound=around.key is not None)
    headers = [(b"content-type", b"application/json")]
    answer = await post(around.fetch, server.registration_endpoint, json.dumps(request).encode(), headers)
    told = read_answer(answer, server.registration_endpoint)
    record = read_registration(told, request, server, redirect_uri)
    around.store.save(client_key, record)
    restored = restore_registration(record, around.now)
    if restored is None:
        raise AuthorizationError(f"{server.registration_endpoint}: the client_secret has expired already")
    return restored[0]


def identity_of(
    grant: AuthorizationCode | ClientCredentials | EnterpriseManaged | WorkloadIdentity,
    server: ServerMetadata,
) -> Identity:
    """The configured identity at an authorization server.

    Raises:
        AuthorizationError: the server takes nothing of what the client has.
    """
    if isinstance(grant, WorkloadIdentity):
        return Identity(grant.client_id)
    return configured_identity(server, grant.client_id, grant.client_secret, grant.key, grant.auth_method)


async def by_refresh(
    grant: AuthorizationCode | ClientCredentials | EnterpriseManaged | WorkloadIdentity,
    around: Round,
    before: Tokens,
) -> Tokens | None:
    """A refresh token (RFC 6749 section 6).

    Returns:
        The tokens; None if the refresh token is good no more, so that another way has to be taken.
    """
    server = around.place.server
    identity: Identity | None
    if isinstance(grant, AuthorizationCode):
        identity = _known_client(grant, server)
        if identity is None:
            kept = restore_registration(
                around.store.load(StoreKey("client", "", server.issuer, "")), around.now
            )
            identity = kept[0] if kept else None
    else:
        identity = identity_of(grant, server)
    if identity is None:
        return None
    form = {"grant_type": "refresh_token", "refresh_token": before.refresh, "resource": around.place.resource}
    try:
        tokens = await around.tokens(identity, form, before.requested)
    except AuthorizationError as error:
        if error.transient:
            raise
        return None
    return tokens.kept_refresh(before)
