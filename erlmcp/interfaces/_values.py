"""Small frozen values: who is on the other side, and how much of it is taken in."""

import msgspec


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message came from, as the transport knows it. Never trusted for more than that.

    Attributes:
        transport: the transport's name: ``http``, ``tcp``, ``stdio`` or a plugin's.
        listener: the configured listener's name, for logs and metrics.
        address: printable address, such as ``127.0.0.1:51234``, or ``unix`` or ``stdio``.
        host: the address without its port; what per-address limits count by. Empty where there is none.
        secure: whether TLS lies below.
        certificate: the verified client certificate (DER), if one was shown.
        uid: the peer's uid where the kernel tells it (unix sockets, stdio), else None.
    """

    transport: str
    listener: str = ""
    address: str = ""
    host: str = ""
    secure: bool = False
    certificate: bytes | None = None
    uid: int | None = None


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a request is for: what authentication found out.

    Attributes:
        id: unique within `kind` and issuer, printable.
        kind: ``anonymous``, ``key``, ``token``, ``certificate`` or ``uid``.
        roles: the configured roles that apply.
        scopes: OAuth scopes, where a token was shown.
        tenant: whom quotas and interventions are kept for; empty where there is one tenant.
        expires: seconds since the epoch, None for never.
    """

    id: str
    kind: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    tenant: str = ""
    expires: float | None = None


ANONYMOUS = Principal(id="anonymous", kind="anonymous")


class WireLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds that a transport holds for each connection. Sizes in bytes, times in seconds.

    Attributes:
        message: the largest message: a line, or a body after inflation.
        in_flight: requests under way on one connection; reading pauses at it.
        write_buffer: bytes written and not yet taken by the peer; at it the connection counts as congested, and at
            four times it, with the peer still not reading, it is cut.
        headers: bytes of one HTTP request's line and headers together.
        header_count: header fields of one HTTP request.
        slow: time that one request's headers, and then its body or line, may take to arrive once begun; and that the
            peer may take nothing of what waits for it.
        lease: time to the first message of a connection.
        idle: time without any message, with nothing in flight.
        heartbeat: time between SSE comments on a stream with nothing to say.
    """

    message: int = 4 * 1024 * 1024
    in_flight: int = 256
    write_buffer: int = 1024 * 1024
    headers: int = 32 * 1024
    header_count: int = 100
    slow: float = 10.0
    lease: float = 30.0
    idle: float = 3600.0
    heartbeat: float = 15.0
