"""Who is on the other side of a Twisted transport, as far as the transport knows."""

import contextlib
import os
import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from erlmcp.interfaces import Peer


def peer_of(transport: Any, *, name: str, listener: str) -> Peer:
    """Describe a connection's other side.

    A client's certificate is known after the TLS handshake, and a proxied client's address after the PROXY header:
    both have happened when the first bytes are received.

    Args:
        transport: the Twisted transport, wrapped or not.
        name: the name of our transport, such as ``tcp``.
        listener: the listener's name.
    """
    address = transport.getPeer()
    secure = hasattr(transport, "getPeerCertificate")
    certificate = _certificate(transport) if secure else None
    if isinstance(address, (IPv4Address, IPv6Address)):
        host = _plain_host(address.host)
        printable = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
        return Peer(
            transport=name,
            listener=listener,
            address=printable,
            host=host,
            secure=secure,
            certificate=certificate,
        )
    if isinstance(address, UNIXAddress):
        uid = None if secure else _uid(transport)
        return Peer(
            transport=name,
            listener=listener,
            address="unix",
            secure=secure,
            certificate=certificate,
            uid=uid,
        )
    # Pipes name nobody: whoever started this process did so as its uid.
    return Peer(transport=name, listener=listener, address=name, uid=os.getuid())


def tune(transport: Any) -> None:
    """Set what a request-and-answer protocol wants of TCP: small answers leave at once, dead peers are found out."""
    if isinstance(transport.getHost(), (IPv4Address, IPv6Address)):
        with contextlib.suppress(AttributeError, OSError):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)


def _plain_host(host: str) -> str:
    """An IPv4 address as such, even where a dual-stack socket writes it as IPv6."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def _certificate(transport: Any) -> bytes | None:
    shown = transport.getPeerCertificate()
    if shown is None:
        return None
    from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

    der: bytes = dump_certificate(FILETYPE_ASN1, shown)
    return der


def _uid(transport: Any) -> int | None:
    """The uid that the kernel noted when the peer connected (Linux, SO_PEERCRED)."""
    try:
        credentials = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except (AttributeError, OSError):
        return None
    uid: int = struct.unpack("iII", credentials)[1]
    return uid
