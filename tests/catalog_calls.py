"""How the catalog's tests make requests, pass gates and run what comes back."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred

from erlmcp.catalog import AnswerGate, Catalog, Provider, ValidateGate
from erlmcp.interfaces import Peer, Request
from erlmcp.protocol import Params


class Conversation:
    """Remembers what was said, and answers questions from a script."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[dict[str, Any]] = []
        self.said: list[tuple[Any, ...]] = []

    async def ask(self, questions: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(questions)
        return {key: self.answers[key] for key in questions}

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.said.append(("progress", progress, total, message))

    def log(self, level: str, data: Any, logger: str | None) -> None:
        self.said.append(("log", level, data, logger))

    def leave(self) -> None:
        self.said.append(("leave",))


def request(method: str, name: str = "", params: Mapping[str, Any] | None = None, **more: Any) -> Request:
    """A request whose parameters went through the decoder that requests from outside go through."""
    found = msgspec.json.decode(json.dumps(dict(params or {})), type=Params)
    return Request(id=1, method=method, name=name, params=found, peer=Peer(transport="test"), **more)


def call_request(name: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> Request:
    params = {"name": name} | ({} if arguments is None else {"arguments": arguments})
    return request("tools/call", name, params, **more)


def finish(outcome: Any) -> Any:
    """The result of what `dispatch` gave: at once, or a Deferred."""
    if hasattr(outcome, "send"):
        deferred: Deferred[Any] = ensureDeferred(outcome)
        return deferred
    return outcome


def run(provider: Provider, made: Request) -> Any:
    """Through gate 5, the backend and gate 9; the fields of the result. For handlers that need no waiting."""
    ValidateGate(Catalog([provider])).check(made)
    outcome = made.backend.dispatch(made)
    if hasattr(outcome, "send"):
        try:
            outcome.send(None)
        except StopIteration as done:
            outcome = done.value
        else:
            raise AssertionError("the handler waits")
    AnswerGate().check(made, outcome)
    return outcome.fields


def call(provider: Provider, name: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """Call a tool that answers at once."""
    return run(provider, call_request(name, arguments or {}, **more))


def text(fields: Mapping[str, Any]) -> str:
    """The text of the first block."""
    found = fields["content"][0]["text"]
    assert isinstance(found, str)
    return found


def wire(raw: msgspec.Raw) -> Any:
    """What a list sends, decoded."""
    return json.loads(bytes(raw))
