"""What ``[[upstream]]`` says of credentials: what an upstream is shown, and where it is kept."""

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from erlmcp.config._lines import Path
from erlmcp.config._secrets import Secret
from erlmcp.config._shape import check_table
from erlmcp.config._sources import Merged

_Shape = TypeVar("_Shape", bound=msgspec.Struct)

_Text = Annotated[str, Meta(min_length=1, max_length=1024)]

_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SECRET: Final = frozenset(("authorization", "cookie", "proxy-authorization", "x-api-key"))
_OURS: Final = frozenset(
    (
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "dpop",
        "host",
        "keep-alive",
        "last-event-id",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class OAuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[upstream.oauth]``: tokens from an authorization server.

    Attributes:
        grant: ``client_credentials``: erlmcp acts for itself, whoever calls. ``token_exchange``: each principal's token
            is exchanged for one that is good at the upstream (RFC 8693).
        client_id: erlmcp's name at the authorization server.
        client_secret, private_key: what proves it, one of the two; the key is PEM.
        key_id, algorithm: of the key, where the authorization server has several, or takes only one that is not the
            usual one for the key.
        auth_method: how the secret is shown, where the authorization server's metadata leave it open.
        issuer: the authorization server that is meant; without it the one that the upstream names.
        scopes: what is asked for in any case.
        audience: the upstream's name at the authorization server, for ``token_exchange``.
        dpop: whether tokens are bound to a key of ours; without it where the upstream asks for it.
        allow: networks where an authorization server may be although they are not public, such as ``10.0.0.0/8``.
    """

    client_id: _Text
    grant: Literal["client_credentials", "token_exchange"] = "client_credentials"
    client_secret: Secret | None = None
    private_key: Secret | None = None
    key_id: str = ""
    algorithm: str = ""
    auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    issuer: str = ""
    scopes: tuple[_Text, ...] = ()
    audience: str = ""
    dpop: bool | None = None
    allow: tuple[_Text, ...] = ()

    def __post_init__(self) -> None:
        if (self.client_secret is None) == (self.private_key is None):
            raise ValueError("expected a client_secret or a private_key, one of the two")
        if self.private_key is not None and self.auth_method is not None:
            raise ValueError("auth_method is about a client_secret, and there is a private_key")
        if self.client_secret is not None and (self.key_id or self.algorithm):
            raise ValueError("key_id and algorithm are about a private_key, and there is a client_secret")
        if self.grant == "token_exchange" and not self.issuer:
            raise ValueError(
                "token_exchange needs an issuer: a principal's token is shown to no authorization server that the "
                "upstream names"
            )
        if self.grant != "token_exchange" and self.audience:
            raise ValueError('audience is about grant = "token_exchange"')


class CredentialSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``[[upstream]]`` that have credentials in them.

    Attributes:
        headers: more header fields of each request to an HTTP upstream: text, or where a secret is.
        token: a bearer token for an HTTP upstream. Read anew when the upstream refuses it.
        oauth: tokens from an authorization server, for an HTTP upstream.
        env: variables of a child process: text, or where a secret is.
    """

    headers: dict[str, str | Secret] = {}
    token: Secret | None = None
    oauth: OAuthSettings | None = None
    env: dict[str, str | Secret] = {}

    def __post_init__(self) -> None:
        names = [name.lower() for name in self.headers]
        for name, value in self.headers.items():
            _check_header(name, value)
            if names.count(name.lower()) > 1:
                raise ValueError(f"headers has {name} twice")
        for name in self.env:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"env: {name!r} is no name of a variable")
        ways = [
            said
            for said, given in (
                ("token", self.token is not None),
                ("oauth", self.oauth is not None),
                ("headers.authorization", "authorization" in names),
            )
            if given
        ]
        if len(ways) > 1:
            raise ValueError(
                f"{' and '.join(ways)}: each sets the header Authorization; expected one of them"
            )


def read_credentials(table: dict[str, Any], path: Path, merged: Merged) -> CredentialSettings | None:
    """The credentials of one ``[[upstream]]``; None if something is wrong with them, which is noted.

    Args:
        table: the whole table; keys that are not of `CredentialSettings` are somebody else's.
        path: where it is.
        merged: where problems go.
    """
    before = len(merged.problems)
    ours = {name: table[name] for name in CredentialSettings.__struct_fields__ if name in table}
    values = check_table(CredentialSettings, ours, path, merged, ours=("oauth",))
    if "oauth" in ours:
        place = (*path, "oauth")
        oauth = check_table(OAuthSettings, ours["oauth"], place, merged)
        if len(merged.problems) == before:
            values["oauth"] = _made(OAuthSettings, oauth, place, merged)
    return _made(CredentialSettings, values, path, merged) if len(merged.problems) == before else None


def _made(shape: type[_Shape], values: dict[str, Any], path: Path, merged: Merged) -> _Shape | None:
    try:
        return shape(**values)
    except ValueError as error:
        merged.problem(path, str(error))
        return None


def _check_header(name: str, value: str | Secret) -> None:
    if not _FIELD.fullmatch(name):
        raise ValueError(f"headers: {name!r} is no name of a header field")
    lower = name.lower()
    if lower in _OURS or lower.startswith("mcp-"):
        raise ValueError(f"headers: {name} is set by the protocol")
    if lower in _SECRET and isinstance(value, str):
        raise ValueError(
            f"headers: {name} is a secret, which is never written in the file itself: say {{ file = … }}, "
            "{ env = … } or { credential = … }"
        )
    if isinstance(value, str):
        check_header_value(name, value)


def check_header_value(name: str, value: str) -> None:
    """Raise `ValueError` unless a header field can have the value. The message does not show it."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(
            f"headers: the value of {name} has characters that no header field has, or blanks around it"
        )
