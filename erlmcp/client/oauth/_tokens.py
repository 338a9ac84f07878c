"""What a token endpoint answers, and how long it is good for (RFC 6749 section 5). Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetched, header, json_object

_MAX_TOKEN: Final = 64 * 1024
_MAX_LIFE: Final = 10 * 365 * 86400
_AHEAD: Final = 60.0
_SHOWN: Final = 300
_TOKEN: Final = re.compile(
    r"[\x21-\x7e]+"
)  # RFC 6749 appendix A.12, without the blank, which no header can carry


@dataclass(frozen=True, slots=True)
class Tokens:
    """An access token, and what is known of it.

    Attributes:
        access: the access token.
        scheme: how it is presented: ``Bearer`` or ``DPoP``.
        obtained: when, in seconds since the epoch.
        expires: when it ends; infinity if the server did not say.
        renew: from when on it is renewed before it is used.
        refresh: the refresh token; empty without one.
        requested: the scopes that were asked for, and kept when asking again.
        granted: the scopes that it has.
    """

    access: str = field(repr=False)
    scheme: str
    obtained: float
    expires: float
    renew: float
    refresh: str = field(default="", repr=False)
    requested: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As a JSON object, for a store."""
        return {
            "access": self.access,
            "scheme": self.scheme,
            "obtained": self.obtained,
            "expires": None if math.isinf(self.expires) else self.expires,
            "renew": None if math.isinf(self.renew) else self.renew,
            "refresh": self.refresh,
            "requested": list(self.requested),
            "granted": list(self.granted),
        }

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> "Tokens | None":
        """From such an object; None if it is none."""
        try:
            expires, renew = record["expires"], record["renew"]
            return cls(
                access=str(record["access"]),
                scheme=str(record["scheme"]),
                obtained=float(record["obtained"]),
                expires=math.inf if expires is None else float(expires),
                renew=math.inf if renew is None else float(renew),
                refresh=str(record["refresh"]),
                requested=tuple(map(str, record["requested"])),
                granted=tuple(map(str, record["granted"])),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def kept_refresh(self, before: "Tokens") -> "Tokens":
        """With the refresh token that was used, where the server gave no new one (RFC 6749 section 6)."""
        return self if self.refresh else replace(self, refresh=before.refresh)


def read_tokens(answer: Mapping[str, Any], requested: tuple[str, ...], now: float, where: str) -> Tokens:
    """Read a successful answer of a token endpoint.

    Raises:
        AuthorizationError: it is no answer that a client may use.
    """
    access = _token(answer.get("access_token"), "access_token", where)
    kind = answer.get("token_type")
    scheme = {"bearer": "Bearer", "dpop": "DPoP"}.get(kind.lower()) if isinstance(kind, str) else None
    if scheme is None:
        raise AuthorizationError(f"{where}: token_type {kind!r}: expected Bearer or DPoP")
    life = _life(answer.get("expires_in"), where)
    refresh = answer.get("refresh_token")
    scope = answer.get("scope")
    return Tokens(
        access=access,
        scheme=scheme,
        obtained=now,
        expires=now + life,
        # A short-lived token is used for at least half of its life, else it would be renewed with each request.
        renew=now + max(life - _AHEAD, life / 2),
        refresh=_token(refresh, "refresh_token", where) if refresh else "",
        requested=requested,
        granted=tuple(scope.split()) if isinstance(scope, str) and scope.strip() else requested,
    )


def _token(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value) or len(value) > _MAX_TOKEN:
        raise AuthorizationError(f"{where}: {name} is missing, too long, or has characters that no token has")
    return value


def _life(value: object, where: str) -> float:
    if value is None:
        return math.inf
    try:
        life = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        )
    except ValueError:
        life = math.nan
    if not 0 <= life < math.inf:
        raise AuthorizationError(f"{where}: expires_in {value!r}: expected a number of seconds")
    return min(life, _MAX_LIFE)


def read_answer(answer: Fetched, where: str) -> dict[str, Any]:
    """The JSON object that an endpoint answered.

    Raises:
        AuthorizationError: with the server's own error (RFC 6749 section 5.2), or with what came instead of one.
    """
    document = json_object(answer.body)
    if document is not None and 200 <= answer.status < 300 and "error" not in document:
        return document
    raise refusal(answer, document, where)


def refusal(answer: Fetched, document: Mapping[str, Any] | None, where: str) -> AuthorizationError:
    """The error that an answer stands for."""
    code = document.get("error") if document is not None else None
    if isinstance(code, str) and code:
        described = document.get("error_description") if document is not None else None
        said = f" ({shown(described)})" if isinstance(described, str) and described else ""
        transient = code in ("temporarily_unavailable", "server_error", "slow_down")
        return AuthorizationError(
            f"{where} refused: {shown(code)}{said}", code=code[:_SHOWN], transient=transient
        )
    transient = answer.status >= 500 or answer.status == 429
    kind = header(answer.headers, b"content-type") or "no content type"
    return AuthorizationError(
        f"{where} answered {answer.status} with {shown(kind)} that is no JSON object of an answer",
        transient=transient,
    )


def shown(text: str) -> str:
    """Somebody else's text for an error message: bounded, on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text[:_SHOWN])
