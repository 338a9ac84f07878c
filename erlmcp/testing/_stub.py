"""A stub of a server, for tests of what a client does, and a whole server in memory with its client."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET
from twisted.internet.task import Clock

from erlmcp.client import Client, Target, WireError
from erlmcp.interfaces import IBackend
from erlmcp.protocol import MODERN, McpError
from erlmcp.testing._harness import Harness
from erlmcp.testing._wires import ChannelWire, StubWire

Scripted = dict[str, Any] | Exception | Callable[[dict[str, Any]], Any] | None
"""What a stub answers: a result, an `McpError` or `WireError`, what a function of the parameters returns of these, or
None for silence."""


class StubServer:
    """A server that answers what it was told to, and remembers what it was asked.

    Give `target` to a client. A method that was told nothing is answered with -32601; in the handshake era
    ``initialize`` has a usual answer.

    Args:
        version: the revision that it speaks.
        capabilities: what it declares.
        linked: whether its wires are like HTTP.

    Attributes:
        requests: what was asked, in order: whole messages, decoded.
        notifications: what was said without asking for an answer.
        responses: the client's answers.
        headers: the header fields of each message, in order.
        wires: the connections made to it, in order.
        refusal: why it takes no connections; None while it does.
    """

    def __init__(
        self,
        version: str = MODERN,
        capabilities: dict[str, Any] | None = None,
        *,
        linked: bool = False,
        name: str = "stub",
    ) -> None:
        self.version = version
        self.capabilities = capabilities or {}
        self.requests: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.wires: list[StubWire] = []
        self.refusal: str | None = None
        self._name = name
        self._linked = linked
        self._script: dict[str, list[Scripted]] = {}
        self.on("server/discover" if version == MODERN else "initialize", self._greeting())

    @property
    def target(self) -> Target:
        """What a client is made with."""
        return Target(self._name, self._wire)

    @property
    def wire(self) -> StubWire:
        """The last connection."""
        return self.wires[-1]

    def on(self, method: str, *answers: Scripted) -> None:
        """Say what a method is answered with: the answers in turn, the last of them again and again."""
        self._script[method] = list(answers)

    def asked(self, method: str | None = None, **params: Any) -> list[dict[str, Any]]:
        """The parameters of the requests of a method (of any, with None) that have these parameters, in order."""
        return [
            request.get("params", {})
            for request in self.requests
            if method in {None, request["method"]} and _has(request.get("params", {}), params)
        ]

    def assert_asked(self, method: str, times: int = 1, **params: Any) -> dict[str, Any]:
        """Hold that a method was asked so many times with these parameters.

        Returns:
            The parameters of the last.

        Raises:
            AssertionError: it was not; with all that was asked.
        """
        found = self.asked(method, **params)
        if len(found) != times:
            heard = (
                "\n".join(f"  {one['method']} {one.get('params', {})}" for one in self.requests)
                or "  nothing"
            )
            raise AssertionError(
                f"{method} with {params} was asked {len(found)} times, not {times}; what was asked:\n{heard}"
            )
        return found[-1] if found else {}

    def assert_methods(self, *methods: str) -> None:
        """Hold that just these methods were asked, in this order.

        Raises:
            AssertionError: with what was asked instead.
        """
        heard = [request["method"] for request in self.requests]
        if heard != list(methods):
            raise AssertionError(f"asked were {heard}, not {list(methods)}")

    def came(self, wire: StubWire, message: dict[str, Any], headers: dict[bytes, bytes]) -> None:
        """Take a message of a client."""
        self.headers.append(headers)
        if "method" not in message:
            self.responses.append(message)
        elif "id" not in message:
            self.notifications.append(message)
        else:
            self.requests.append(message)
            self._answer(wire, message)

    def _answer(self, wire: StubWire, message: dict[str, Any]) -> None:
        identifier, method = message["id"], message["method"]
        answers = self._script.get(method)
        answer: Any
        if not answers:
            answer = McpError(-32601, f"Method not found: {method}")
        else:
            answer = answers[0] if len(answers) == 1 else answers.pop(0)
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(message.get("params", {}))
        if isinstance(answer, McpError):
            error: dict[str, Any] = {"code": answer.code, "message": answer.message}
            if answer.data is not UNSET:
                error["data"] = answer.data
            wire.answer(identifier, error=error, status=answer.http_status(self.version == MODERN))
        elif isinstance(answer, WireError):
            wire.fail(identifier, answer)
        elif answer is not None:
            wire.answer(identifier, answer)

    def _wire(self) -> StubWire:
        wire = StubWire(self, linked=self._linked, peer=self._name)
        self.wires.append(wire)
        return wire

    def _greeting(self) -> dict[str, Any]:
        info = {"name": self._name, "version": "1"}
        if self.version == MODERN:
            return {
                "resultType": "complete",
                "supportedVersions": [MODERN],
                "capabilities": self.capabilities,
                "ttlMs": 0,
                "cacheScope": "private",
                "_meta": {"io.modelcontextprotocol/serverInfo": info},
            }
        return {"protocolVersion": self.version, "capabilities": self.capabilities, "serverInfo": info}


class Pair:
    """A client and a server in one process, without network: the real ones, but for the wire between them.

    Args:
        backends: what the server serves.
        linked: whether the wire is like HTTP.
        harness: a server to use instead.
        options: for the `erlmcp.client.Client`.

    Attributes:
        client: the client.
        harness: the server, with its clock and what it counted.
        clock: the clock of both.
        wires: the wires that the client made, in order, with what was said on them.
    """

    def __init__(
        self, *backends: IBackend, linked: bool = False, harness: Harness | None = None, **options: Any
    ) -> None:
        self.harness = harness or Harness(*backends)
        self.clock: Clock = self.harness.clock
        self.wires: list[ChannelWire] = []
        self._linked = linked
        self.client = Client(Target("memory", self._wire), self.clock, **options)

    @property
    def sent(self) -> Sequence[dict[str, Any]]:
        """All that the client sent, over all wires."""
        return [message for wire in self.wires for message in wire.sent]

    def _wire(self) -> ChannelWire:
        wire = ChannelWire(self.harness.channel, linked=self._linked)
        self.wires.append(wire)
        return wire


def _has(params: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(name in params and params[name] == value for name, value in wanted.items())
