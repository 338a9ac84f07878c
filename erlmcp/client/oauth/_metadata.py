"""What servers say of themselves: protected resources (RFC 9728) and authorization servers (RFC 8414). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._urls import check_endpoint, covers, origin

_MAX_ITEMS: Final = 200
_MAX_ITEM: Final = 1024


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """The metadata of an MCP server.

    Attributes:
        resource: what it is called in requests for tokens.
        servers: the issuers that give tokens for it; at least one.
        scopes: all that it lists; None if it does not.
        bound: whether it wants tokens that are bound to a key (``dpop_bound_access_tokens_required``).
    """

    resource: str
    servers: tuple[str, ...]
    scopes: tuple[str, ...] | None
    bound: bool


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """The metadata of an authorization server. Endpoints that it does not have are empty.

    Attributes:
        issuer: its identifier, character by character as it was looked up by.
        methods: how clients may show who they are at the token endpoint; None if it does not say.
        signing: the algorithms of client assertions that it takes; None if it does not say.
        proofs: the algorithms of DPoP proofs that it takes; None if it does not know DPoP.
        scopes: those that it lists; None if it does not.
        challenges: the methods of PKCE; None if it does not say, and then it has none.
        names_issuer: whether each answer to an authorization request carries ``iss`` (RFC 9207).
        takes_documents: whether the URL of a metadata document is a client id.
    """

    issuer: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    registration_endpoint: str = ""
    methods: tuple[str, ...] | None = None
    signing: tuple[str, ...] | None = None
    proofs: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    challenges: tuple[str, ...] | None = None
    names_issuer: bool = False
    takes_documents: bool = False


def _strings(document: Mapping[str, Any], name: str, where: str) -> tuple[str, ...] | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise AuthorizationError(f"{where}: {name} is not a list of strings")
    return tuple(item for item in value[:_MAX_ITEMS] if len(item) <= _MAX_ITEM)


def read_resource(document: Mapping[str, Any], server_url: str, where: str) -> ResourceMetadata:
    """Read the metadata of a protected resource.

    Args:
        document: the JSON object.
        server_url: the MCP server that they are of.
        where: the address that they came from.

    Raises:
        AuthorizationError: they are of another resource, or name no authorization server.
    """
    resource = document.get("resource")
    if not isinstance(resource, str):
        raise AuthorizationError(f"{where}: no resource: expected the URL of the MCP server")
    check_endpoint(resource, f"{where}: resource")
    if not covers(resource, server_url):
        raise AuthorizationError(
            f"{where}: these are the metadata of {resource}, not of {server_url}: a token for it is not asked for"
        )
    servers = _strings(document, "authorization_servers", where)
    if not servers:
        raise AuthorizationError(f"{where}: authorization_servers names none")
    for server in servers:
        check_endpoint(server, f"{where}: authorization_servers")
    return ResourceMetadata(
        resource=resource,
        servers=servers,
        scopes=_strings(document, "scopes_supported", where),
        bound=document.get("dpop_bound_access_tokens_required") is True,
    )


def read_server(document: Mapping[str, Any], issuer: str, where: str) -> ServerMetadata:
    """Read the metadata of an authorization server.

    Args:
        document: the JSON object.
        issuer: the identifier that the address was made from.
        where: the address.

    Raises:
        AuthorizationError: the document names another issuer (RFC 8414 section 3.3: it must not be used), or an
            endpoint is no address that may be asked.
    """
    theirs = document.get("issuer")
    if theirs != issuer:
        raise AuthorizationError(
            f"{where}: the document is of issuer {theirs!r}, not of {issuer!r}: it is not used"
        )
    endpoints = {}
    for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint"):
        value = document.get(name)
        endpoints[name] = "" if value is None else check_endpoint(value, f"{where}: {name}")
    return ServerMetadata(
        issuer=issuer,
        **endpoints,
        methods=_strings(document, "token_endpoint_auth_methods_supported", where),
        signing=_strings(document, "token_endpoint_auth_signing_alg_values_supported", where),
        proofs=_strings(document, "dpop_signing_alg_values_supported", where),
        scopes=_strings(document, "scopes_supported", where),
        challenges=_strings(document, "code_challenge_methods_supported", where),
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        takes_documents=document.get("client_id_metadata_document_supported") is True,
    )


def assumed_server(server_url: str) -> ServerMetadata:
    """The authorization server of an MCP server that has no metadata at all, as revision 2025-03-26 allowed it.

    Its endpoints have fixed paths at the server's own origin, and PKCE was required of it.
    """
    base = origin(server_url)
    return ServerMetadata(
        issuer=base,
        authorization_endpoint=f"{base}/authorize",
        token_endpoint=f"{base}/token",
        registration_endpoint=f"{base}/register",
        challenges=("S256",),
    )
