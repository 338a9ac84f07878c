"""Reading ``WWW-Authenticate`` (RFC 9110 section 11.6.1): what a server wants of a client. Pure, bounded, lenient."""

import re
from dataclasses import dataclass, field
from typing import Final

from erlmcp.client.oauth._fetching import Headers

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER: Final = re.compile(rf'\s*({_NAME})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.DOTALL)
_SCHEME: Final = re.compile(rf"({_NAME})(?=[\s,]|$)")
_OPAQUE: Final = re.compile(r"\s+[A-Za-z0-9\-._~+/]+=*(?=\s*(?:,|$))")
_GAP: Final = re.compile(r"[\s,]*")
_MAX_BYTES: Final = 16 * 1024
_MAX_CHALLENGES: Final = 16
_MAX_PARAMETERS: Final = 32


@dataclass(slots=True)
class Challenge:
    """One challenge.

    Attributes:
        scheme: lower case: ``bearer``, ``dpop`` or another.
        parameters: by name, lower case; the first of each name.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """The error code (RFC 6750 section 3.1, RFC 9449 section 9); empty if there is none."""
        return self.parameters.get("error", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that the request needs; empty if the server does not say."""
        return tuple(self.parameters.get("scope", "").split())


def parse_challenges(headers: Headers) -> list[Challenge]:
    """The challenges of an answer, in order. What cannot be read ends the field that it stands in."""
    challenges: list[Challenge] = []
    left = _MAX_BYTES
    for name, value in headers:
        if name.lower() == b"www-authenticate":
            _parse(value[:left].decode("latin-1"), challenges)
            left -= min(left, len(value))
    return challenges[:_MAX_CHALLENGES]


def _parse(text: str, into: list[Challenge]) -> None:
    challenge: Challenge | None = None
    position = _GAP.match(text).end()  # type: ignore[union-attr]
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is not None and challenge is not None:
            name, quoted, plain = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if quoted is not None else plain
            if len(challenge.parameters) < _MAX_PARAMETERS:
                challenge.parameters.setdefault(name.lower(), value)
            position = parameter.end()
        else:
            scheme = _SCHEME.match(text, position)
            if scheme is None or len(into) >= _MAX_CHALLENGES:
                return
            challenge = Challenge(scheme[1].lower())
            into.append(challenge)
            token68 = _OPAQUE.match(text, scheme.end())
            position = token68.end() if token68 else scheme.end()
        position = _GAP.match(text, position).end()  # type: ignore[union-attr]


def chosen(challenges: list[Challenge]) -> Challenge | None:
    """The challenge to go by: DPoP before Bearer, as it is the stronger; None if the server names neither."""
    for scheme in ("dpop", "bearer"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    return None
