"""The watchdog of ``WatchdogSec=``: fed from the reactor, so that one that hangs is noticed."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from erlmcp.systemd._notify import Notifier

log = Logger(namespace="erlmcp.systemd")

_TICK = 1.0
"""Seconds between looks at how late the reactor is, where no shorter watchdog asks for more."""


class Watchdog(Service):
    """Feeds systemd's watchdog as long as the reactor turns, and measures how late it is.

    A reactor that is blocked (a tool that computes in it, a deadlock) makes no timer fire and feeds nobody. One that
    turns but does not come round to what was handed to it from other threads feeds nobody either: each feed goes that
    way. `healthy` may withhold the feed for a reason of its own.

    Args:
        notifier: how systemd is told.
        reactor: ``IReactorTime`` and ``IReactorFromThreads``.
        environ: ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` of it are looked at.
        healthy: asked before each feed: None, or why there is none.
        pid: this process.

    Attributes:
        interval: seconds between feeds, half of what systemd waits; None where it waits for none.
        lag: seconds by which the last timer was late.
        worst: the latest that one has been since `worst` was last set to 0.
    """

    def __init__(
        self,
        notifier: Notifier,
        reactor: Any,
        environ: Mapping[str, str] = os.environ,
        *,
        healthy: Callable[[], str | None] = lambda: None,
        pid: Callable[[], int] = os.getpid,
    ) -> None:
        self._notifier = notifier
        self._reactor = reactor
        self._environ = environ
        self._healthy = healthy
        self._pid = pid
        self._timer: Any = None
        self._due = 0.0
        self._fed = 0.0
        self._reason: str | None = None
        self.interval: float | None = None
        self.lag = 0.0
        self.worst = 0.0

    def startService(self) -> None:
        """Begin to feed."""
        super().startService()  # type: ignore[no-untyped-call]
        # Only now: a daemon has another process id than whoever made it.
        self.interval = self._wanted()
        self._fed = self._reactor.seconds()
        self._plan()

    def stopService(self) -> Deferred[None] | None:
        """Feed no more: ending has a time limit of its own."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return None

    def _wanted(self) -> float | None:
        if not self._notifier.active or self._environ.get("WATCHDOG_PID", "") not in {"", str(self._pid())}:
            return None
        text = self._environ.get("WATCHDOG_USEC", "")
        if not text:
            return None
        if not text.isdecimal() or int(text) == 0:
            log.warn("WATCHDOG_USEC={text} is not understood", text=text)  # noqa: G010 - Twisted's name
            return None
        return int(text) / 2_000_000

    def _plan(self) -> None:
        tick = _TICK if self.interval is None else min(_TICK, self.interval)
        self._due = self._reactor.seconds() + tick
        self._timer = self._reactor.callLater(tick, self._look)

    def _look(self) -> None:
        now = self._reactor.seconds()
        self.lag = max(0.0, now - self._due)
        self.worst = max(self.worst, self.lag)
        # A tick of slack: better a feed too early than one that misses its half.
        if self.interval is not None and now - self._fed >= self.interval - _TICK:
            self._reactor.callFromThread(self._feed)
        self._plan()

    def _feed(self) -> None:
        if not self.running:
            return
        reason = self._healthy()
        if reason is None:
            self._fed = self._reactor.seconds()
            self._notifier.alive()
        elif reason != self._reason:
            log.error("systemd's watchdog is not fed: {reason}", reason=reason)
        self._reason = reason
