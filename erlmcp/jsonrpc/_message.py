"""One message as it is decoded: the envelope typed, payloads raw."""

from typing import Annotated, Final, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

P = TypeVar("P")

MAX_ID: Final = 2**63 - 1
"""The largest absolute value of an integer id."""
MAX_ID_LENGTH: Final = 1024
"""The longest string id, in characters."""

Id = Annotated[int, Meta(ge=-MAX_ID, le=MAX_ID)] | Annotated[str, Meta(max_length=MAX_ID_LENGTH)]


class Message(Struct, Generic[P]):
    """A request, a notification or a response; `Codec.decode` gives no other.

    Attributes:
        jsonrpc: always ``2.0``.
        id: the request's id; UNSET in a notification, and in an error response to what could not be read.
        method: UNSET in a response.
        params: the parameters as the codec's type; UNSET if there are none.
        result: a response's result, not yet parsed.
        error: a response's error object, not yet parsed.
    """

    jsonrpc: Literal["2.0"]
    id: Id | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: P | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET

    @property
    def is_request(self) -> bool:
        """Whether it wants an answer."""
        return self.method is not UNSET and self.id is not UNSET

    @property
    def is_notification(self) -> bool:
        """Whether it must not be answered."""
        return self.method is not UNSET and self.id is UNSET

    @property
    def is_response(self) -> bool:
        """Whether it is an answer."""
        return self.method is UNSET
