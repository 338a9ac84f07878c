"""Which of a tool's arguments are mirrored into HTTP headers, learnt from the server's list.

Source: 2026-07-28, basic/transports/streamable-http, "Custom Headers from Tool Parameters".
"""

from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import Logger

from erlmcp.catalog import InvalidSchema, header_parameters
from erlmcp.client._results import Tool
from erlmcp.interfaces import HeaderParameter
from erlmcp.protocol import encode_header_value

log = Logger(namespace="erlmcp.client")

_MOST: Final = 20_000
"""Tools that are remembered; of what is beyond, the server may refuse calls for want of a header."""


class Mirrors:
    """What is known of one server's tools."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[HeaderParameter, ...]] = {}
        self.complete = False

    def learn(self, tools: list[Tool], peer: str, *, linked: bool) -> list[Tool]:
        """Remember the tools of one page.

        Args:
            tools: as the server lists them.
            peer: the server's name, for the log.
            linked: whether the wire is HTTP, whose clients must drop a tool with an invalid declaration.

        Returns:
            Those that can be called.
        """
        good = []
        for tool in tools:
            try:
                parameters = header_parameters(tool.input_schema)
            except InvalidSchema as error:
                if linked:
                    dropped = "{peer}: the tool {name!r} is left out: {error}"
                    log.warn(dropped, peer=peer, name=tool.name, error=error)  # noqa: G010 - Twisted's name
                    continue
                parameters = ()
            if len(self._known) < _MOST:
                self._known[tool.name] = parameters
            good.append(tool)
        return good

    def headers(self, name: str, arguments: Mapping[str, Any]) -> tuple[tuple[bytes, bytes], ...] | None:
        """The headers for a call; None if the tool is not known.

        Raises:
            ValueError: an argument cannot be put into a header: an integer that JSON cannot carry everywhere.
        """
        parameters = self._known.get(name)
        if parameters is None:
            return None
        found = []
        for parameter in parameters:
            value = _value_at(parameter.path, arguments)
            if isinstance(value, str | int):
                found.append((parameter.header, encode_header_value(value)))
        return tuple(found)

    def forget(self) -> None:
        """The list has changed."""
        self._known.clear()
        self.complete = False


def _value_at(path: tuple[str, ...], arguments: Any) -> Any:
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments
