"""Plain blocking clients of a real daemon: one HTTP connection each, both eras, and streams read event by event."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Self

PATIENCE = 60.0
MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
_ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def meta(**capabilities: Any) -> dict[str, Any]:
    """The envelope of a modern request."""
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }


class Wire:
    """One kept connection; `closing` once the server has said that it will close it.

    Each exchange is over before the next begins, but for `stream`, which takes the connection for good.
    """

    def __init__(self, port: int | None = None, path: str | None = None) -> None:
        self._address = (port, path)
        self.path = "/mcp"
        self.closing = False
        self._connection: http.client.HTTPConnection | None = None
        self.session: dict[str, str] = {}
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self.closing = False

    def send(
        self, method: str, body: Any = None, headers: Mapping[str, str] = {}
    ) -> http.client.HTTPResponse:
        """One request, its answer not read yet."""
        if self._connection is None:
            port, path = self._address
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            if path is not None:
                self._connection.sock = socket.socket(socket.AF_UNIX)
                self._connection.sock.connect(path)
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, self.path, data, {**_ACCEPT, **headers})
        response = self._connection.getresponse()
        self.closing = response.getheader("connection", "").lower() == "close"
        return response

    def finish(self, response: http.client.HTTPResponse) -> list[Any]:
        """The messages of an answer, to its end."""
        if "event-stream" in response.getheader("content-type", ""):
            messages = [message for _, message in events(response) if message is not None]
        else:
            text = response.read()
            messages = [json.loads(text)] if text else []
        if self.closing:
            self.close()
        return messages

    def modern(self, tool: str, arguments: Any = None, **extra: Any) -> Any:
        """Call a tool in the modern era; its result, or its error."""
        self._number += 1
        params = {
            "name": tool,
            "arguments": arguments or {},
            "_meta": meta(elicitation={"form": {}}),
            **extra,
        }
        message = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
        return _result(self.finish(self.send("POST", message, headers))[-1])

    def initialize(self) -> None:
        """Begin a handshake session."""
        params = {
            "protocolVersion": HANDSHAKE,
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "1"},
        }
        response = self.send("POST", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        self.session = {
            "Mcp-Session-Id": response.getheader("mcp-session-id") or "",
            "MCP-Protocol-Version": HANDSHAKE,
        }
        self.finish(response)
        self.notify("notifications/initialized")

    def share(self, other: "Wire") -> Self:
        """Be of another's session."""
        self.session = other.session
        self._number = 1000 + other._number
        return self

    def begin(self, method: str, params: Any = None, number: int | None = None) -> http.client.HTTPResponse:
        """Send a handshake request."""
        self._number += 1
        message = {
            "jsonrpc": "2.0",
            "id": self._number if number is None else number,
            "method": method,
            "params": params or {},
        }
        return self.send("POST", message, self.session)

    def call(self, tool: str, arguments: Any = None) -> Any:
        """Call a tool in the handshake era; its result, or its error."""
        response = self.begin("tools/call", {"name": tool, "arguments": arguments or {}})
        return _result(self.finish(response)[-1])

    def ask(self, method: str, params: Any = None) -> Any:
        """A handshake request; its result, or its error."""
        return _result(self.finish(self.begin(method, params))[-1])

    def notify(self, method: str, params: Any = None) -> int:
        """A notification; its status."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        response = self.send("POST", message, self.session)
        self.finish(response)
        return response.status

    def answer(self, number: Any, result: Any) -> int:
        """Answer a question; the status."""
        response = self.send("POST", {"jsonrpc": "2.0", "id": number, "result": result}, self.session)
        self.finish(response)
        return response.status

    def listen(self, last: str | None = None) -> http.client.HTTPResponse:
        """A GET stream."""
        headers = {**self.session, "Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last
        return self.send("GET", None, headers)


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """The events of a stream as they come: id and message, None for one without."""
    if "event-stream" not in response.getheader("content-type", ""):
        raise AssertionError(f"no stream: {response.status} {response.read()!r}")
    number, data = "", ""
    while line := response.readline():
        text = line.decode().rstrip("\r\n")
        if text.startswith("id:"):
            number = text[3:].strip()
        elif text.startswith("data:"):
            data += text[5:].strip()
        elif not text and (data or number):
            yield number, json.loads(data) if data else None
            number, data = "", ""


def text_of(result: Any) -> str:
    """The text of a tool's result."""
    if "content" not in result:
        raise AssertionError(f"no content: {result}")
    text: str = result["content"][0]["text"]
    return text


def _result(message: Any) -> Any:
    return message.get("result", message.get("error"))
