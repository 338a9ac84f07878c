"""The authorization code round (OAuth 2.1 section 4.1): the request with PKCE, and what may come back. Pure."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._interaction import Redirected
from erlmcp.client.oauth._metadata import ServerMetadata
from erlmcp.client.oauth._scopes import OFFLINE
from erlmcp.client.oauth._signing import base64url
from erlmcp.client.oauth._tokens import shown


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """What is remembered of one authorization request until its answer comes.

    Attributes:
        url: where the user goes.
        redirect_uri: where the answer comes to.
        verifier: the PKCE code verifier (RFC 7636).
        state: what the answer has to repeat.
        issuer: who has to have answered (2026-07-28, authorization response validation).
        names_issuer: whether the answer must say so.
    """

    url: str
    redirect_uri: str
    verifier: str = field(repr=False)
    state: str = field(repr=False)
    issuer: str
    names_issuer: bool


def s256(verifier: str) -> str:
    """The code challenge of a verifier (RFC 7636 section 4.2)."""
    return base64url(hashlib.sha256(verifier.encode()).digest())


def check_pkce(server: ServerMetadata) -> None:
    """Refuse an authorization server that does not say it has PKCE with S256 (authorization code protection).

    Raises:
        AuthorizationError: it does not, or has no authorization endpoint.
    """
    if not server.authorization_endpoint:
        raise AuthorizationError(f"{server.issuer} has no authorization_endpoint: no user can agree there")
    if server.challenges is None or "S256" not in server.challenges:
        raise AuthorizationError(
            f"{server.issuer} does not offer PKCE with S256 (code_challenge_methods_supported): "
            "a code could be stolen, so none is asked for"
        )


def code_request(
    server: ServerMetadata,
    client_id: str,
    redirect_uri: str,
    resource: str,
    scopes: tuple[str, ...],
    thumbprint: str,
) -> CodeRequest:
    """Make an authorization request.

    Args:
        server: its metadata, of which the issuer has been checked.
        client_id: who asks.
        redirect_uri: where the answer is expected.
        resource: the MCP server (RFC 8707).
        scopes: to ask for; none leaves the parameter out.
        thumbprint: of the key that the code is bound to (RFC 9449 section 10); empty without DPoP.
    """
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": s256(verifier),
        "code_challenge_method": "S256",
        "resource": resource,
    }
    if scopes:
        parameters["scope"] = " ".join(scopes)
    if OFFLINE in scopes:
        parameters["prompt"] = (
            "consent"  # OpenID Connect Core section 11: without it offline access is ignored
        )
    if thumbprint:
        parameters["dpop_jkt"] = thumbprint
    parts = urlsplit(server.authorization_endpoint)
    query = "&".join(filter(None, (parts.query, urlencode(parameters, quote_via=quote))))
    url = urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
    return CodeRequest(url, redirect_uri, verifier, state, server.issuer, server.names_issuer)


def accept(request: CodeRequest, answer: Redirected) -> str:
    """Hold an answer to its request.

    Returns:
        The code.

    Raises:
        AuthorizationError: it is not the answer to this request, or it says no. Nothing of an answer by somebody else
            is shown.
    """
    if answer.state is None or not hmac.compare_digest(answer.state.encode(), request.state.encode()):
        raise AuthorizationError(
            "the answer to the authorization request has another state: it is not to our request"
        )
    if answer.iss is None:
        if request.names_issuer:
            raise AuthorizationError(
                f"the answer to the authorization request has no iss, and {request.issuer} says that its answers do"
            )
    elif answer.iss != request.issuer:
        raise AuthorizationError(
            f"the answer to the authorization request is not by {request.issuer}, who was asked"
        )
    if answer.error is not None:
        said = f" ({shown(answer.error_description)})" if answer.error_description else ""
        raise AuthorizationError(
            f"{request.issuer} refused: {shown(answer.error)}{said}", code=shown(answer.error)
        )
    if not answer.code:
        raise AuthorizationError(f"the answer of {request.issuer} has neither a code nor an error")
    return answer.code
