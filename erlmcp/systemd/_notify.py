"""Messages to the service manager: one datagram each (sd_notify(3)). Without ``$NOTIFY_SOCKET`` nothing is sent."""

import os
import socket
import time
from collections.abc import Callable, Mapping

from twisted.logger import Logger

log = Logger(namespace="erlmcp.systemd")

_LONGEST_STATUS = 200


class Notifier:
    """Tells systemd how the service fares. No method raises or waits: a service must not fail for want of a listener.

    Args:
        environ: the environment; ``NOTIFY_SOCKET`` in it is a path, or ``@`` and an abstract name.
        monotonic: nanoseconds of CLOCK_MONOTONIC.

    Attributes:
        active: whether anybody listens.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self._said: str | None = None
        self.active = self._address[:1] in {"/", "@"} and len(self._address) > 1
        if self._address and not self.active:
            log.warn("NOTIFY_SOCKET={address} is not understood", address=self._address)  # noqa: G010 - Twisted's name

    def ready(self, status: str = "") -> None:
        """The service is up, or has finished reloading."""
        self._send("READY=1", status)

    def reloading(self, status: str = "") -> None:
        """The service begins to reload; `ready` ends it. ``Type=notify-reload`` needs the time."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic() // 1000}", status)

    def stopping(self, status: str = "", *, extend: float = 0.0) -> None:
        """The service begins to end.

        Args:
            status: what ``systemctl status`` shows.
            extend: seconds that it may take, counted from now, where ``TimeoutStopSec=`` would end it sooner.
        """
        state = "STOPPING=1"
        if extend > 0:
            state += f"\nEXTEND_TIMEOUT_USEC={round(extend * 1_000_000)}"
        self._send(state, status)

    def status(self, status: str) -> None:
        """Change what ``systemctl status`` shows; sent only if it differs from what was sent last."""
        if status != self._said:
            self._send("", status)

    def alive(self) -> None:
        """Keep the watchdog quiet."""
        self._send("WATCHDOG=1", "")

    def close(self) -> None:
        """Let go of the socket; whatever is sent later opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str, status: str) -> None:
        if not self.active:
            return
        lines = [state] if state else []
        if status:
            self._said = status
            lines.append("STATUS=" + " ".join(status.split())[:_LONGEST_STATUS])
        address = self._address
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.settimeout(0.0)
            self._socket.sendto(
                "\n".join(lines).encode(), "\0" + address[1:] if address[0] == "@" else address
            )
        except OSError as error:
            log.warn("systemd was not told {state}: {why}", state=lines[0], why=str(error))  # noqa: G010 - Twisted's name
            self.close()
