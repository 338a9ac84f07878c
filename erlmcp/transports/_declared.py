"""A transport plugin that is known by name, and imported when somebody wants to use it."""

from importlib import import_module
from typing import Any

import msgspec
from twisted.plugin import IPlugin
from zope.interface import implementer

from erlmcp.interfaces import IListener, ITransport, ListenContext


@implementer(IPlugin, ITransport)
class DeclaredTransport:
    """Stands for a transport until its options or a listener are asked for.

    Twisted imports every dropin to list its plugins; so a dropin that declares its transports in this way costs
    nothing to those who use another.

    Args:
        name: the transport's name.
        place: ``MODULE:ATTRIBUTE`` of a class that implements `ITransport` and takes no arguments.
    """

    def __init__(self, name: str, place: str) -> None:
        self.name = name
        self._place = place
        self._transport: Any = None

    @property
    def options(self) -> type[msgspec.Struct]:
        """See `ITransport`."""
        options: type[msgspec.Struct] = self._load().options
        return options

    def listener(self, context: ListenContext, options: Any) -> IListener:
        """See `ITransport`."""
        listener: IListener = self._load().listener(context, options)
        return listener

    def _load(self) -> Any:
        if self._transport is None:
            module, _, attribute = self._place.partition(":")
            self._transport = getattr(import_module(module), attribute)()
        return self._transport
