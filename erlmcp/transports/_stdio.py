"""One client on standard input and output: the host that started this process."""

import functools
import os
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from twisted.internet import stdio
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import IListener, ITransport, ListenContext
from erlmcp.transports._binding import BindError
from erlmcp.transports._connections import Connections
from erlmcp.transports._lines import LineConnection
from erlmcp.transports._streams import StandardStreams, claim_standard_streams

_connect: Callable[..., object] = stdio.StandardIO  # typed as its Windows namesake


class StdioOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a stdio listener.

    Attributes:
        deadline: seconds that calls may still take once standard input has ended.
    """

    deadline: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0


@implementer(IListener)
class StdioListener:
    """The listener that has one connection, from `bind` to its end.

    Args:
        context: what the daemon gives; its endpoint is not looked at.
        options: the deadline.
        streams: the descriptors to use, and to close at the end; None for the process's own.

    Attributes:
        name: the listener's name.
        addresses: none.
        exhausted: fires when no more requests can come: standard input has ended, and with it the reason to run.
        ended: fires when the connection has ended.
    """

    addresses: tuple[Any, ...] = ()

    def __init__(
        self, context: ListenContext, options: StdioOptions, streams: StandardStreams | None = None
    ) -> None:
        self.name = context.name
        self.exhausted: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._reactor = context.reactor
        self._connections = Connections(context, "stdio", options.deadline)
        self._streams = streams

    def bind(self) -> Deferred[None]:
        """See `IListener`; fails with `BindError` where a stream is closed."""
        try:
            streams = claim_standard_streams() if self._streams is None else self._streams
            for stream in streams:
                os.fstat(stream)
        except OSError as error:
            return fail(BindError("stdio", f"standard input or output is closed ({error.strerror})"))
        connection = StdioConnection(self._connections, streams, self.exhausted, self.ended)
        _connect(connection, stdin=streams.input, stdout=streams.output, reactor=self._reactor)
        return succeed(None)

    def drain(self) -> Deferred[None]:
        """See `IListener`."""
        return self._connections.drain()

    def close(self) -> Deferred[None]:
        """See `IListener`."""
        return self._connections.abort()


class StdioConnection(LineConnection):
    """The connection to the host.

    Args:
        siblings: as `LineConnection` has it.
        streams: the descriptors that it closes at its end, so that the host sees it.
        exhausted: fires when no more can be read.
        ended: fires at its end.
    """

    __slots__ = ("_ended", "_exhausted", "_streams")

    def __init__(
        self,
        siblings: Connections,
        streams: StandardStreams,
        exhausted: Deferred[None],
        ended: Deferred[None],
    ) -> None:
        super().__init__(siblings)
        self._streams = streams
        self._exhausted = exhausted
        self._ended = ended

    def begin(self, direct: Callable[[bytes], int] | None = None) -> None:
        """See `Outgoing`."""
        super().begin(functools.partial(os.write, self._streams.output) if direct is None else direct)

    def cut(self) -> None:
        """See `LineConnection`. Twisted's transport for standard streams cannot be aborted, only told of its loss."""
        self.stop_taking()
        self.stopProducing()
        self.transport.connectionLost(Failure(ConnectionAborted()))

    def readConnectionLost(self) -> None:
        """See `LineConnection`. Subscriptions would last as long as we do, so that we end is said at once."""
        super().readConnectionLost()
        if not self._exhausted.called:
            self._exhausted.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        """See `IProtocol`."""
        super().connectionLost(reason)
        if not self._exhausted.called:
            self._exhausted.callback(None)
        # Others may share the open file, a terminal for one: leave it as it was found.
        for stream in self._streams:
            os.set_blocking(stream, True)
            os.close(stream)
        self._ended.callback(None)


@implementer(IPlugin, ITransport)
class StdioTransport:
    """``transport = "stdio"``."""

    name = "stdio"
    options = StdioOptions

    def listener(self, context: ListenContext, options: StdioOptions) -> IListener:
        """See `ITransport`."""
        return StdioListener(context, options)
