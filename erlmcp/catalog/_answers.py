"""What clients answer to questions, as handlers see it."""

from typing import Any, Generic, Literal, TypeVar

import msgspec

from erlmcp.catalog._errors import InputDeclined
from erlmcp.catalog._forms import Form
from erlmcp.protocol import errors

T = TypeVar("T")
Action = Literal["accept", "decline", "cancel"]


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """A user's answer (revision 2026-07-28, client/elicitation, Response Actions).

    Attributes:
        action: ``accept``, ``decline`` (a clear no) or ``cancel`` (dismissed without a choice).
        data: what was filled in, None unless accepted.
        message: what was asked.
    """

    action: Action
    data: T | None = None
    message: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the user agreed."""
        return self.action == "accept"

    def required(self) -> T:
        """The data, for work that cannot go on without it.

        Raises:
            InputDeclined: there is none; in a tool that makes an error result that says so.
        """
        if self.action != "accept":
            verb = "declined" if self.action == "decline" else "dismissed"
            raise InputDeclined(self.action, f"the user {verb} the question: {self.message}")
        return self.data  # type: ignore[return-value]  # None only where nothing was asked for


class Root(msgspec.Struct, frozen=True):
    """A directory or file that the client lets the server work on."""

    uri: str
    name: str | None = None


class Sampled:
    """What the client's model wrote.

    Attributes:
        result: the whole ``CreateMessageResult`` object.
    """

    __slots__ = ("result",)

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result

    @property
    def content(self) -> list[dict[str, Any]]:
        """The content blocks."""
        content = self.result.get("content", [])
        return content if isinstance(content, list) else [content]

    @property
    def text(self) -> str:
        """The text blocks, joined."""
        return "".join(block.get("text", "") for block in self.content if block.get("type") == "text")

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.result.get("model", ""))

    @property
    def stop_reason(self) -> str | None:
        """Why it stopped, if it was told."""
        return self.result.get("stopReason")


def read_answer(answer: dict[str, Any], wanted: Form | None, message: str) -> Answer[Any]:
    """An ``ElicitResult`` object as an `Answer`.

    Raises:
        erlmcp.protocol.McpError: an accepted form whose content is not what was asked for.
    """
    action = answer["action"]
    if action != "accept" or wanted is None:
        return Answer(action, None, message)
    try:
        return Answer(action, wanted.read(answer.get("content") or {}), message)
    except (ValueError, TypeError, LookupError, ArithmeticError, msgspec.ValidationError) as error:
        raise errors.invalid_params(f"the answer to {message!r} is not what was asked for: {error}") from None
