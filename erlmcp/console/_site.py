"""The three pages, on a twisted.web site made strict: GET and HEAD alone, no body, Host checked, one answer each."""

import ipaddress
from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import resource, server

from erlmcp.config import is_loopback

log = Logger()

_TEXT = b"text/plain; charset=utf-8"
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"
_TOO_LARGE = b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def console_site(
    *,
    metrics: Callable[[], bytes | Deferred[bytes]],
    unready: Callable[[], str | None],
    hosts: Collection[str],
    reactor: IReactorTime,
) -> server.Site:
    """Make the site.

    Args:
        metrics: gives the text of ``/metrics``, or a Deferred of it.
        unready: says why requests should go elsewhere now; None if they need not.
        hosts: names that Host may have besides loopback's and IP addresses.
        reactor: for the timers of connections.
    """
    return _Site(_Pages(metrics, unready, frozenset(map(str.lower, hosts))), reactor)


class _Pages(resource.Resource):
    isLeaf = True

    def __init__(
        self,
        metrics: Callable[[], bytes | Deferred[bytes]],
        unready: Callable[[], str | None],
        hosts: frozenset[str],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._metrics = metrics
        self._unready = unready
        self._hosts = hosts

    def render(self, request: Any) -> bytes | int:
        """Answer every path and method."""
        status, kind, body = self._answer(request)
        if isinstance(body, bytes):
            return self._page(request, status, kind, body)
        gone: list[Any] = []
        request.notifyFinish().addBoth(gone.append)

        def finish(text: bytes) -> None:
            if not gone:
                request.write(self._page(request, status, kind, text))
                request.finish()

        def failed(failure: Failure) -> None:
            log.failure("the metrics could not be gathered", failure)
            if not gone:
                request.write(self._page(request, 503, _TEXT, b"the metrics could not be gathered\n"))
                request.finish()

        body.addCallback(finish).addErrback(failed)
        return server.NOT_DONE_YET

    def _page(self, request: Any, status: int, kind: bytes, body: bytes) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"content-type", kind)
        request.setHeader(b"content-length", b"%d" % len(body))
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"connection", b"close")
        return b"" if request.method == b"HEAD" else body

    def _answer(self, request: Any) -> tuple[int, bytes, bytes | Deferred[bytes]]:
        given = request.requestHeaders.getRawHeaders(b"host", [])
        if len(given) != 1:
            return 400, _TEXT, b"exactly one Host is needed\n"
        if not self._known(given[0].decode("latin-1")):
            # A page in a browser reaches loopback under a name of its own (DNS rebinding), never under ours.
            return 403, _TEXT, b"this Host is not served here: see hosts in [telemetry]\n"
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return 405, _TEXT, b"GET or HEAD\n"
        path = request.path
        if path == b"/healthz":
            return 200, _TEXT, b"ok\n"
        if path == b"/readyz":
            why = self._unready()
            return (200, _TEXT, b"ready\n") if why is None else (503, _TEXT, f"{why}\n".encode())
        if path == b"/metrics":
            return 200, _METRICS, self._metrics()
        return 404, _TEXT, b"there are /healthz, /readyz and /metrics\n"

    def _known(self, host: str) -> bool:
        name = host.lower() if host.endswith("]") else host.lower().rsplit(":", 1)[0]
        if name in self._hosts or is_loopback(name):
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


class _Request(server.Request):
    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        """Refuse a body: nothing here takes one, and it would be stored."""
        self.content = BytesIO()
        if length != 0:
            self.channel.write(_TOO_LARGE)
            self.channel.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Drop what was refused."""

    def process(self) -> None:
        """One answer for each connection, so that no idle one is kept."""
        if self.channel is not None:
            self.channel.persistent = 0
        super().process()  # type: ignore[no-untyped-call]


class _Site(server.Site):
    displayTracebacks = False  # noqa: N815 - Twisted's name

    def __init__(self, pages: _Pages, reactor: IReactorTime) -> None:
        super().__init__(pages, requestFactory=_Request, reactor=reactor, timeout=10)  # type: ignore[no-untyped-call]

    def log(self, request: Any) -> None:
        """No access log: scrapes and probes come every few seconds."""
