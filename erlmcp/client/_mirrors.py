"""Which of a tool's arguments are mirrored into HTTP headers, learnt from the server's list.

Source: 2026-07-28, basic/transports/streamable-http, "Custom Headers from Tool Parameters".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.logger import Logger

from erlmcp.catalog import InvalidSchema, header_parameters
from erlmcp.client._results import Tool
from erlmcp.interfaces import HeaderParameter
from erlmcp.protocol import encode_header_value

log = Logger(namespace="erlmcp.client")

_MOST: Final = 20_000
"""Tools that are remembered; of what is beyond, the server may refuse calls for want of a header."""
_SHOWN: Final = 200


class Mirrors:
    """What is known of one server's tools.

    Attributes:
        complete: whether all of them are known, so that it is of no use to ask for one that is not.
        epoch: changes with each `forget`: what was asked for before says nothing of afterwards.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[HeaderParameter, ...]] = {}
        self.complete = False
        self.epoch = 0

    def learn(self, tools: list[Tool], peer: str, *, linked: bool) -> list[Tool]:
        """Remember the tools of one page.

        Args:
            tools: as the server lists them.
            peer: the server's name, for the log.
            linked: whether they are called over HTTP in the modern revision, whose clients must drop a tool with an
                invalid declaration. Elsewhere there is nothing to be learnt.

        Returns:
            Those that can be called.
        """
        if not linked:
            return tools
        good = []
        for tool in tools:
            try:
                parameters = header_parameters(tool.input_schema)
            except InvalidSchema as error:
                dropped = "{peer}: the tool {name!r} is left out: {error}"
                what = {"peer": peer, "name": tool.name[:_SHOWN], "error": str(error)[:_SHOWN]}
                log.warn(dropped, **what)  # noqa: G010 - Twisted's name
                continue
            if tool.name in self._known or len(self._known) < _MOST:
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
        return mirrored_headers(parameters, arguments)

    def forget(self) -> None:
        """The list has changed."""
        self._known.clear()
        self.complete = False
        self.epoch += 1


def mirrored_headers(
    parameters: Sequence[HeaderParameter], arguments: Mapping[str, Any]
) -> tuple[tuple[bytes, bytes], ...]:
    """The ``Mcp-Param-*`` headers of a call.

    Raises:
        ValueError: an argument cannot be put into a header: an integer that JSON cannot carry everywhere.
    """
    found = []
    for parameter in parameters:
        value = _value_at(parameter.path, arguments)
        if isinstance(value, float) and value.is_integer():
            # JSON has one kind of number: 42.0 is an integer (JSON Schema 2020-12, 6.1.1).
            value = int(value)
        if isinstance(value, str | int):
            found.append((parameter.header, encode_header_value(value)))
    return tuple(found)


def _value_at(path: tuple[str, ...], arguments: Any) -> Any:
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments
