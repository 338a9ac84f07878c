"""Finding out who gives tokens for an MCP server: its metadata, and those of its authorization server, in order."""

from dataclasses import dataclass

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetch, get_document
from erlmcp.client.oauth._metadata import (
    ResourceMetadata,
    ServerMetadata,
    assumed_server,
    read_resource,
    read_server,
)
from erlmcp.client.oauth._urls import (
    canonical_resource,
    check_endpoint,
    origin,
    resource_metadata_urls,
    server_metadata_urls,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where tokens for an MCP server come from.

    Attributes:
        resource: what the server is called in requests for tokens.
        scopes: those that its metadata list; None if they do not.
        bound: whether it wants tokens that are bound to a key.
        server: who gives them.
        metadata_url: where the server said its metadata are; empty if it did not.
    """

    resource: str
    scopes: tuple[str, ...] | None
    bound: bool
    server: ServerMetadata
    metadata_url: str


async def discover(fetch: Fetch, server_url: str, metadata_url: str, issuer: str, known: str) -> Place:
    """Look up who gives tokens for a server.

    Args:
        fetch: sends requests.
        server_url: the MCP server.
        metadata_url: where a challenge said its metadata are; empty if none did.
        issuer: the one authorization server that is meant; empty for whichever the server names.
        known: the one used before, which stays where the server names several.

    Raises:
        AuthorizationError: there is none that may be used.
    """
    metadata = await _resource(fetch, server_url, metadata_url)
    if metadata is None:
        server = await _without_metadata(fetch, server_url)
        if issuer and server.issuer != issuer:
            raise AuthorizationError(
                f"{server_url} has no metadata that name {issuer}, for which the client is set up"
            )
        return Place(canonical_resource(server_url), None, bound=False, server=server, metadata_url="")
    chosen = _choose(metadata, server_url, issuer, known)
    found = await find_server(fetch, chosen)
    if found is None:
        raise AuthorizationError(
            f"{chosen} has no metadata at {' or '.join(server_metadata_urls(chosen))}, so its endpoints are not known"
        )
    return Place(metadata.resource, metadata.scopes, metadata.bound, found, metadata_url)


async def _resource(fetch: Fetch, server_url: str, metadata_url: str) -> ResourceMetadata | None:
    # Discovery requirements: the URL of the challenge where there is one, else the well-known ones in order.
    if metadata_url:
        check_endpoint(metadata_url, "resource_metadata")
        document = await get_document(fetch, metadata_url)
        if document is None:
            raise AuthorizationError(
                f"{metadata_url}: {server_url} says that its metadata are there, and they are not"
            )
        return read_resource(document, server_url, metadata_url)
    for url in resource_metadata_urls(server_url):
        document = await get_document(fetch, url)
        if document is not None:
            return read_resource(document, server_url, url)
    return None


async def _without_metadata(fetch: Fetch, server_url: str) -> ServerMetadata:
    # Servers of revision 2025-03-26 are their own authorization server, at the root of their origin.
    base = check_endpoint(origin(server_url), "the server's origin")
    return await find_server(fetch, base) or assumed_server(server_url)


async def find_server(fetch: Fetch, issuer: str) -> ServerMetadata | None:
    """The metadata of an authorization server (or OpenID provider); None if there are none.

    Raises:
        AuthorizationError: what there is may not be used.
    """
    for url in server_metadata_urls(issuer):
        document = await get_document(fetch, url)
        if document is not None:
            return read_server(document, issuer, url)
    return None


def _choose(metadata: ResourceMetadata, server_url: str, issuer: str, known: str) -> str:
    if issuer:
        if issuer not in metadata.servers:
            raise AuthorizationError(
                f"{server_url} takes tokens of {', '.join(metadata.servers)}, and the client is set up for {issuer}"
            )
        return issuer
    return known if known in metadata.servers else metadata.servers[0]
