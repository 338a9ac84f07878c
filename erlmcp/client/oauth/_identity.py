"""Who the client is to an authorization server: how it registers, and how it shows it at the token endpoint. Pure."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args
from urllib.parse import quote_plus

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._grants import AuthMethod, AuthorizationCode, SigningKey, application_type
from erlmcp.client.oauth._metadata import ServerMetadata
from erlmcp.client.oauth._signing import ASSERTION_TYPE, client_assertion

METHODS: tuple[AuthMethod, ...] = get_args(AuthMethod)


@dataclass(frozen=True, slots=True)
class Identity:
    """A client as one authorization server knows it."""

    client_id: str
    method: AuthMethod = "none"
    secret: str = field(default="", repr=False)
    key: SigningKey | None = None

    def prove(self, server: ServerMetadata, now: float) -> tuple[dict[str, str], list[tuple[bytes, bytes]]]:
        """What shows at the token endpoint who the client is.

        Returns:
            Parameters of the form, and header fields.
        """
        if self.method == "client_secret_basic":
            # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}".encode()
            return {}, [(b"authorization", b"Basic " + base64.b64encode(pair))]
        if self.method == "client_secret_post":
            return {"client_id": self.client_id, "client_secret": self.secret}, []
        if self.method == "private_key_jwt" and self.key is not None:
            assertion = client_assertion(self.key, self.client_id, server.issuer, now, server.signing)
            return {
                "client_id": self.client_id,
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": assertion,
            }, []
        return ({"client_id": self.client_id} if self.client_id else {}), []


def configured_identity(
    server: ServerMetadata, client_id: str, secret: str, key: SigningKey | None, method: AuthMethod | None
) -> Identity:
    """The identity of a client that is registered already, or that is known by its metadata document.

    Raises:
        AuthorizationError: the server takes nothing of what the client has to show.
    """
    possible: tuple[AuthMethod, ...] = ("none",)
    if key is not None:
        possible = ("private_key_jwt",)
    elif secret:
        possible = ("client_secret_basic", "client_secret_post")
    if method is not None:
        possible = (method,)
    # RFC 8414 section 2: where a server does not say, it takes client_secret_basic. Public clients are not listed by
    # all that have them, so one without a secret tries.
    offered = server.methods
    if offered is None or possible == ("none",):
        return Identity(client_id, possible[0], secret, key)
    for one in possible:
        if one in offered:
            return Identity(client_id, one, secret, key)
    raise AuthorizationError(
        f"{server.issuer} takes {', '.join(offered) or 'nothing'} from clients "
        "(token_endpoint_auth_methods_supported), "
        f"and this one has {' or '.join(possible)}"
    )


def registration_request(
    server: ServerMetadata,
    grant: AuthorizationCode,
    redirect_uri: str,
    scopes: tuple[str, ...],
    *,
    bound: bool,
) -> dict[str, Any]:
    """The metadata with which a client registers itself (RFC 7591 section 2).

    Args:
        server: where.
        grant: the client's configuration.
        redirect_uri: the one redirect URI.
        scopes: that it is going to ask for.
        bound: whether its tokens are to be bound to a key (RFC 9449 section 5.2).
    """
    kind = application_type(grant, redirect_uri)
    document: dict[str, Any] = {
        "client_name": grant.client_name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"] if grant.offline else ["authorization_code"],
        "response_types": ["code"],
        "application_type": kind,
    }
    method = grant.auth_method or _preferred(server, kind)
    if method is not None:
        document["token_endpoint_auth_method"] = method
    if scopes:
        document["scope"] = " ".join(scopes)
    if bound:
        document["dpop_bound_access_tokens"] = True
    return document


def _preferred(server: ServerMetadata, kind: str) -> AuthMethod | None:
    order: tuple[AuthMethod, ...] = ("none", "client_secret_basic", "client_secret_post")
    if kind == "web":
        order = ("client_secret_basic", "client_secret_post", "none")
    return next((method for method in order if method in (server.methods or ())), None)


def read_registration(
    answer: Mapping[str, Any], request: Mapping[str, Any], server: ServerMetadata, redirect_uri: str
) -> dict[str, Any]:
    """What is kept of a registration.

    Raises:
        AuthorizationError: the answer has no client id, or leaves the client without a way to show who it is.
    """
    where = server.registration_endpoint
    client_id, secret = answer.get("client_id"), answer.get("client_secret") or ""
    if not isinstance(client_id, str) or not client_id or not isinstance(secret, str):
        raise AuthorizationError(f"{where}: the answer has no client_id")
    method = answer.get("token_endpoint_auth_method") or request.get("token_endpoint_auth_method")
    if (
        method is None
    ):  # neither asked for nor told: the default of RFC 7591 section 2, as far as there is a secret
        method = "client_secret_basic" if secret else "none"
    if method not in METHODS or method == "private_key_jwt":
        raise AuthorizationError(
            f"{where}: registered with token_endpoint_auth_method {method!r}, which is not ours"
        )
    if method != "none" and not secret:
        raise AuthorizationError(f"{where}: registered with {method}, and without a client_secret")
    expires = answer.get("client_secret_expires_at") or 0
    return {
        "client_id": client_id,
        "client_secret": secret if method != "none" else "",
        "method": method,
        "redirect_uri": redirect_uri,
        "expires": float(expires)
        if isinstance(expires, int | float) and secret and method != "none"
        else 0.0,
    }


def restore_registration(record: Mapping[str, Any] | None, now: float) -> tuple[Identity, str] | None:
    """A registration that was kept, and its redirect URI; None if there is none that is still good."""
    if record is None:
        return None
    client_id, method = record.get("client_id"), record.get("method")
    if not isinstance(client_id, str) or method not in METHODS:
        return None
    if now >= (float(record.get("expires") or 0) or math.inf):
        return None
    identity = Identity(client_id, cast("AuthMethod", method), str(record.get("client_secret") or ""))
    return identity, str(record.get("redirect_uri") or "")
