"""What a client answers when the server asks: elicitation, sampling, roots. One set of answers for both eras."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.logger import Logger

from erlmcp.client._results import Elicitation
from erlmcp.protocol import check_answer

log = Logger(namespace="erlmcp.client")

DECLINE: Final[dict[str, Any]] = {"action": "decline"}
"""The user said no."""
CANCEL: Final[dict[str, Any]] = {"action": "cancel"}
"""The user made no choice."""


def accept(content: dict[str, Any] | None = None) -> dict[str, Any]:
    """The user said yes, and filled in the form if there was one."""
    return {"action": "accept"} if content is None else {"action": "accept", "content": content}


class CannotAnswer(Exception):  # noqa: N818 - it reads as what it says
    """A question has no answer: nobody here answers such, or what answered it did wrong."""


Elicit = Callable[[Elicitation], Any]
Sample = Callable[[dict[str, Any]], Any]
Roots = Callable[[], Any]


class Answers:
    """Who answers a server's questions. What is left out is not declared, and the server must not ask it.

    Each may be a plain function, a coroutine function, or return a Deferred.

    Args:
        elicit: gets an `Elicitation`, returns what `accept`, `DECLINE` or `CANCEL` are, or a form's content alone. Only
            called for URLs if `urls` says so; it shows the whole URL, asks for consent, and never fetches it unasked.
        forms: whether `elicit` takes forms.
        urls: whether `elicit` takes URLs.
        sample: gets the parameters of ``sampling/createMessage``, returns its result.
        sampling_tools: whether `sample` understands ``tools`` and ``toolChoice``.
        roots: a list of ``{"uri": "file://…", "name": …}``, or what returns one.
        defaults: whether what a form leaves out is filled in from the defaults of its schema.
    """

    def __init__(
        self,
        *,
        elicit: Elicit | None = None,
        forms: bool = True,
        urls: bool = False,
        sample: Sample | None = None,
        sampling_tools: bool = False,
        roots: Sequence[dict[str, Any]] | Roots | None = None,
        defaults: bool = True,
    ) -> None:
        self._elicit = elicit
        self._forms = forms
        self._urls = urls
        self._sample = sample
        self._sampling_tools = sampling_tools
        self._roots = roots
        self._defaults = defaults

    def capabilities(self) -> dict[str, Any]:
        """The ``ClientCapabilities`` that this amounts to (revision 2026-07-28)."""
        declared: dict[str, Any] = {}
        if self._elicit is not None:
            modes = {"form": self._forms, "url": self._urls}
            declared["elicitation"] = {mode: {} for mode, able in modes.items() if able}
        if self._sample is not None:
            declared["sampling"] = {"tools": {}} if self._sampling_tools else {}
        if self._roots is not None:
            declared["roots"] = {}
        return declared

    async def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer one question.

        Args:
            method: ``elicitation/create``, ``sampling/createMessage`` or ``roots/list``.
            params: its parameters.

        Returns:
            The result, which fits the question (a form's content its schema).

        Raises:
            CannotAnswer: with one sentence for the server.
        """
        answer = await self._ask(method, params)
        problem = check_answer({"method": method, "params": params}, answer)
        if problem is not None:
            raise CannotAnswer(f"the answer to {method} does not fit: {problem}")
        return answer

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "elicitation/create" and self._elicit is not None:
            return await self._elicited(params)
        if method == "sampling/createMessage" and self._sample is not None:
            result: dict[str, Any] = await _finished(self._sample, params)
            return result
        if method == "roots/list" and self._roots is not None:
            roots = await _finished(self._roots) if callable(self._roots) else self._roots
            return {"roots": list(roots)}
        raise CannotAnswer(f"this client does not answer {method}")

    async def _elicited(self, params: dict[str, Any]) -> dict[str, Any]:
        mode = params.get("mode", "form")
        if not {"form": self._forms, "url": self._urls}.get(mode, False):
            raise CannotAnswer(f"this client does not answer elicitation of mode {mode!r}")
        message = params.get("message")
        schema = params.get("requestedSchema") if mode == "form" else None
        url = params.get("url") if mode == "url" else None
        if not isinstance(message, str) or not isinstance(schema if mode == "form" else url, dict | str):
            raise CannotAnswer("an elicitation has a message, and a requestedSchema or a url")
        assert self._elicit is not None  # noqa: S101 - the caller has looked
        question = Elicitation(message, schema, url, params.get("elicitationId"))
        answer = await _finished(self._elicit, question)
        if not isinstance(answer, dict) or answer.get("action") not in {"accept", "decline", "cancel"}:
            answer = {"action": "accept", "content": answer}
        if schema is not None and self._defaults and answer["action"] == "accept":
            return {**answer, "content": with_defaults(schema, answer.get("content") or {})}
        return answer


def with_defaults(schema: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """A form's content, with the defaults of what it leaves out (client/elicitation, "Requested Schema")."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not isinstance(content, dict):
        return content
    defaults = {
        name: one["default"]
        for name, one in properties.items()
        if isinstance(one, dict) and "default" in one and name not in content
    }
    return {**content, **defaults}


async def _finished(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        value = function(*arguments)
        if inspect.iscoroutine(value):
            return await ensureDeferred(value)
        return await value if isinstance(value, Deferred) else value
    except (CannotAnswer, CancelledError):
        raise
    except Exception as error:
        log.failure("answering a server's question failed")
        raise CannotAnswer("the client failed to answer") from error
