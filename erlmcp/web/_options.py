"""How a pool behaves: its bounds, its times, and what TLS it speaks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Http2 = Literal["alpn", "never", "prior_knowledge"]


@dataclass(frozen=True, slots=True)
class Tls:
    """What is asked of TLS.

    Attributes:
        trust: whom to believe, as ``twisted.internet.ssl.trustRootFromCertificates`` gives it; None for what the
            platform trusts.
        certificate: our own, a ``twisted.internet.ssl.PrivateCertificate``, where the server wants to know us.
        server_name: the name that the server's certificate must bear, and that it is told; None for the URL's host.
    """

    trust: Any = None
    certificate: Any = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """See `Pool`, whose arguments these are."""

    http2: Http2 = "alpn"
    tls: Tls = field(default_factory=Tls)
    unix: str | None = None
    admit: Callable[[str], None] | None = None
    connections_per_origin: int = 32
    streams_per_connection: int = 100
    origins: int = 1024
    queue: int = 10_000
    header_bytes: int = 64 * 1024
    connect_timeout: float = 10.0
    response_head_timeout: float = 300.0
    queue_timeout: float = 60.0
    idle: float = 90.0
    ping: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what would never send anything."""
        if self.http2 not in ("alpn", "never", "prior_knowledge"):
            raise ValueError(f"http2 is {self.http2!r}, not alpn, never or prior_knowledge")
        for name in (
            "connections_per_origin",
            "streams_per_connection",
            "origins",
            "queue",
            "header_bytes",
            "connect_timeout",
            "response_head_timeout",
            "queue_timeout",
            "idle",
            "ping",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be more than 0")
