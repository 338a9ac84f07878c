"""What a log may say of a request that failed: where and why, with an id that its caller has too; not its arguments."""

import traceback
from collections.abc import Iterable
from itertools import groupby
from typing import Any, ClassVar, Final

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.interfaces import Request

HIDDEN: Final = "[…]"
"""What stands for an argument."""

_SHORTEST: Final = 4
"""Characters of the shortest argument that is hidden: a shorter one tells little, and would blot out half the text."""
_MOST_WORDS: Final = 1000
_LONGEST_ARGUMENTS: Final = 1024


class RequestFailure(Failure):
    """A failure of a request, whose traceback shows none of the request's arguments unless they are asked for.

    Frames and source lines are the program's own and stay as they are; the exceptions' messages are gone through.

    Args:
        error: what was raised.
        request: whose.

    Attributes:
        shows_arguments: whether arguments may be shown, for all of them.
    """

    shows_arguments: ClassVar[bool] = False

    def __init__(self, error: BaseException, request: Request) -> None:
        super().__init__(error)  # type: ignore[no-untyped-call]
        self._error = error
        self._request = request

    def getTraceback(self, elideFrameworkCode: int = 0, detail: str = "default") -> str:  # noqa: N802, N803 - Twisted's names
        """See `Failure.getTraceback`; the details that would show values of variables are not to be had."""
        del elideFrameworkCode, detail
        error = self._error
        told = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
        text = "".join(told.format())
        if RequestFailure.shows_arguments:
            return text
        words = secret_words(self._request)
        if not words:
            return text
        own = {line for stack in _stacks(told) for part in stack.format() for line in part.split("\n")} - {""}
        # What lies between frames is gone through as a whole: an argument may have lines of its own.
        parts = [
            "\n".join(lines) if ours else hide("\n".join(lines), words)
            for ours, lines in groupby(text.split("\n"), own.__contains__)
        ]
        return "\n".join(parts)


def report(log: Logger, message: str, error: BaseException, request: Request, **fields: object) -> str:
    """Log that a request failed.

    Args:
        log: the logger.
        message: its format, with ``{method}``, ``{name}``, ``{id}``, ``{reference}`` or fields of the caller's.
        error: why.
        request: which.
        fields: further fields of the event.

    Returns:
        the request's reference, for the answer to its caller.
    """
    reference = request.refer()
    log.failure(message, RequestFailure(error, request), **{**about(request), **fields})
    return reference


def about(request: Request) -> dict[str, Any]:
    """A request as fields of a log event: what, for whom, by which ids; its arguments only if the operator says so."""
    fields: dict[str, Any] = {
        "method": request.method,
        "name": request.name,
        "id": request.id,
        "reference": request.refer(),
        "principal": request.principal.id,
        "peer": request.peer.address,
    }
    if request.trace is not None and "traceparent" in request.trace:
        # ``version-trace-span-flags``; it was checked when it was read.
        fields["trace_id"], fields["span_id"] = request.trace["traceparent"].split("-")[1:3]
    if RequestFailure.shows_arguments and request.arguments is not None:
        fields["arguments"] = _spelt(request.arguments)
    return fields


def hide(text: str, words: Iterable[str]) -> str:
    """Put `HIDDEN` for every word, also where it is spelt as `repr` or JSON would.

    Args:
        text: what may show them.
        words: longest first.
    """
    for word in words:
        for spelling in {word, repr(word)[1:-1], msgspec.json.encode(_sendable(word)).decode()[1:-1]}:
            text = text.replace(spelling, HIDDEN)
    return text


def secret_words(request: Request) -> list[str]:
    """What a request's arguments, and its client's answers, hold as text of four characters or more, longest first."""
    found: set[str] = set()
    stack: list[Any] = [request.arguments, request.answers]
    argument = getattr(request.params, "argument", None)
    stack += [getattr(argument, "value", None), getattr(request.params, "input_responses", None)]
    while stack and len(found) < _MOST_WORDS:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, (list, tuple, set, frozenset)):
            stack.extend(value)
        elif isinstance(value, msgspec.Raw):
            stack.append(msgspec.json.decode(value))
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            word = str(value)
            if len(word) >= _SHORTEST:
                found.add(word)
    return sorted(found, key=len, reverse=True)


def _stacks(told: traceback.TracebackException) -> list[traceback.StackSummary]:
    found = []
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        one = waiting.pop()
        if one is None:
            continue
        found.append(one.stack)
        waiting += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
    return found


def _spelt(arguments: dict[str, Any]) -> str:
    try:
        text = msgspec.json.encode(arguments).decode()
    except (TypeError, ValueError):
        text = repr(arguments)
    return text if len(text) <= _LONGEST_ARGUMENTS else text[:_LONGEST_ARGUMENTS] + "…"


def _sendable(word: str) -> str:
    return word.encode("utf-8", "replace").decode()
