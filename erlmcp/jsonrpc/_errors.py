"""The codes that JSON-RPC 2.0 reserves, and the one exception that decoding raises."""

from typing import Any, Final

from msgspec import UNSET

PARSE_ERROR: Final = -32700
"""What arrived is no JSON text (JSON-RPC 2.0, section 5.1)."""
INVALID_REQUEST: Final = -32600
"""It is JSON, but no message that we take."""
METHOD_NOT_FOUND: Final = -32601
"""No such method, or its capability is not declared."""
INVALID_PARAMS: Final = -32602
"""The method's parameters are wrong."""
INTERNAL_ERROR: Final = -32603
"""The fault is ours."""


class MalformedMessage(Exception):  # noqa: N818 - it names the message, which is what its catcher answers
    """Bytes that are no acceptable message, and the answer they get.

    Attributes:
        code: the JSON-RPC error code: -32700, -32600 or -32602.
        message: one sentence: what is wrong, where, and what would be right.
        id: the id to answer with; None where it could not be read, or where echoing it would mislead: an error with
            the id of a malformed *response* would be taken for the answer to a request of the sender's own.
        data: the error's ``data`` member, UNSET for none.
        method: the method, if it could be read.
        batch: whether the document was an array.
        is_notification: whether it could be read as a notification; JSON-RPC 2.0, section 4.1, forbids an answer.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        id: int | str | None = None,  # noqa: A002 - JSON-RPC's own name
        data: Any = UNSET,
        method: str | None = None,
        batch: bool = False,
        is_notification: bool = False,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.id = id
        self.data = data
        self.method = method
        self.batch = batch
        self.is_notification = is_notification

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


def message_too_large(size: int, limit: int) -> MalformedMessage:
    """The answer to a message of `size` bytes where `limit` are taken; for transports that never hold it whole."""
    return MalformedMessage(INVALID_REQUEST, f"the message has {size} bytes; at most {limit} are accepted")
