"""Session ids of the handshake era: sealed tokens that any worker can read, with nothing stored to verify them.

A token is never authentication. It opens only for the principal that it was made for, and says what was agreed
upon when the session began.
"""

import os
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, Struct

from erlmcp.protocol._capabilities import ClientCapabilities, ElicitationCapability, SamplingCapability
from erlmcp.protocol._errors import INVALID_REQUEST, McpError
from erlmcp.protocol._greetings import Greeting
from erlmcp.protocol._meta import Implementation
from erlmcp.protocol._revisions import REVISIONS, Revision
from erlmcp.protocol._sealing import BadSeal, Sealer

LONGEST_TOKEN: Final = 1024
"""The most characters of a session id."""
LONGEST_OWNER: Final = 64
"""The most bytes of a worker's id."""
LIFETIME: Final = 24 * 3600.0
"""Seconds that a session may live, whatever happens."""

_SHOWN: Final = 64
_ID_SIZE: Final = 16
_REMEMBERED: Final = 2048

_FORM, _URL, _SAMPLING, _TOOLS, _CONTEXT, _ROOTS, _ELICITATION = (1 << bit for bit in range(7))


class LostSession(McpError):  # noqa: N818 - it says what has become of the session
    """There is no such session: deleted, expired, garbled or another's. HTTP 404, so that the client starts anew."""

    def __init__(self) -> None:
        super().__init__(
            INVALID_REQUEST, "There is no such session, or it has ended: initialize again", status=404
        )


class SessionToken(Struct, frozen=True):
    """What a session id says.

    Attributes:
        id: 128 random bits in hex, which name the session's live state.
        revision: the revision agreed upon.
        bits: the known capabilities of the client, one bit each; `capabilities` reads them.
        client_name: the client's name, cut to 64 characters.
        client_version: likewise its version.
        owner: the id of the worker that began the session.
        born: seconds since the epoch.
        expires: likewise; after it there is no such session.
    """

    id: str
    revision: Revision
    bits: int
    client_name: str
    client_version: str
    owner: str
    born: float
    expires: float

    @property
    def capabilities(self) -> ClientCapabilities:
        """What the client declared; ``experimental`` is not kept."""
        return _capabilities(self.bits)

    @property
    def client(self) -> Implementation:
        """The client's name and version."""
        return Implementation(self.client_name, self.client_version)


class _Payload(Struct, frozen=True, array_like=True):
    version: str
    id: bytes
    bits: int
    name: str
    client_version: str
    owner: str
    born: float
    expires: float


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Payload).decode


class SessionTokens:
    """Makes and reads session ids.

    The last 2048 that were read are remembered, with what they were bound to: a client sends its own with each
    request.

    Args:
        sealer: a sealer of this purpose alone.
        lifetime: seconds that a session may live; its keys stay in the ring as long.
    """

    __slots__ = ("_known", "_lifetime", "_sealer")

    def __init__(self, sealer: Sealer, lifetime: float = LIFETIME) -> None:
        self._sealer = sealer
        self._lifetime = lifetime
        self._known: dict[tuple[str | bytes, bytes], SessionToken] = {}

    def mint(self, greeting: Greeting, owner: str, binding: bytes, now: float) -> tuple[str, SessionToken]:
        """Begin a session.

        Args:
            greeting: the client's ``initialize``.
            owner: the id of the worker that begins it, at most 64 bytes of UTF-8.
            binding: the principal, as `principal_binding` writes it.
            now: seconds since the epoch.

        Returns:
            The session id, at most 1024 characters of base64url, and what it says.

        Raises:
            ValueError: the worker's id is too long.
        """
        if len(owner.encode()) > LONGEST_OWNER:
            raise ValueError(f"the worker id {owner!r} has more than {LONGEST_OWNER} bytes")
        token = SessionToken(
            os.urandom(_ID_SIZE).hex(),
            greeting.revision,
            capability_bits(greeting.capabilities),
            greeting.client.name[:_SHOWN],
            greeting.client.version[:_SHOWN],
            owner,
            now,
            now + self._lifetime,
        )
        payload = _Payload(
            token.revision.name,
            bytes.fromhex(token.id),
            token.bits,
            token.client_name,
            token.client_version,
            owner,
            token.born,
            token.expires,
        )
        return self._sealer.seal(_encode(payload), binding, token.expires), token

    def read(self, text: str | bytes, binding: bytes, now: float) -> SessionToken:
        """What a session id says.

        Args:
            text: the value of ``Mcp-Session-Id``.
            binding: the principal that the request was authenticated for, as `principal_binding` writes it.
            now: seconds since the epoch.

        Raises:
            LostSession: it was altered, made elsewhere or for another principal, or has expired.
        """
        key = (text, binding)
        token = self._known.get(key)
        if token is None:
            token = self._open(text, binding, now)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = token
        elif now >= token.expires:
            del self._known[key]
            raise LostSession
        return token

    def _open(self, text: str | bytes, binding: bytes, now: float) -> SessionToken:
        if len(text) > LONGEST_TOKEN:
            raise LostSession
        try:
            plain = text if isinstance(text, str) else text.decode("ascii")
            read = _decode(self._sealer.unseal(plain, binding, now))
            revision = REVISIONS[read.version]
        except (BadSeal, UnicodeDecodeError, msgspec.DecodeError, KeyError):
            raise LostSession from None
        return SessionToken(
            read.id.hex(),
            revision,
            read.bits,
            read.name,
            read.client_version,
            read.owner,
            read.born,
            read.expires,
        )


def principal_binding(kind: str, id: str) -> bytes:  # noqa: A002 - the principal's own name for it
    """A principal as bytes that no other principal has: what tokens are bound to."""
    return b"%d:%b%b" % (len(kind.encode()), kind.encode(), id.encode())


def capability_bits(declared: ClientCapabilities) -> int:
    """The capabilities that can be asked for, as a number from 0 to 127."""
    bits = 0 if declared.roots is UNSET else _ROOTS
    if declared.elicitation is not UNSET:
        bits |= _ELICITATION
        bits |= 0 if declared.elicitation.form is UNSET else _FORM
        bits |= 0 if declared.elicitation.url is UNSET else _URL
    if declared.sampling is not UNSET:
        bits |= _SAMPLING
        bits |= 0 if declared.sampling.tools is UNSET else _TOOLS
        bits |= 0 if declared.sampling.context is UNSET else _CONTEXT
    return bits


@lru_cache(maxsize=128)
def _capabilities(bits: int) -> ClientCapabilities:
    return ClientCapabilities(
        elicitation=ElicitationCapability(
            form={} if bits & _FORM else UNSET, url={} if bits & _URL else UNSET
        )
        if bits & _ELICITATION
        else UNSET,
        sampling=SamplingCapability(
            tools={} if bits & _TOOLS else UNSET, context={} if bits & _CONTEXT else UNSET
        )
        if bits & _SAMPLING
        else UNSET,
        roots={} if bits & _ROOTS else UNSET,
    )
