"""What a backend's work comes to."""

from typing import Any

import msgspec


class Complete(msgspec.Struct):
    """A finished result.

    Attributes:
        fields: the result object without what belongs to the hop (``resultType``, serverInfo); values may be
            anything msgspec encodes, `msgspec.Raw` included, so an upstream's parts pass through untouched.
    """

    fields: dict[str, Any]


class NeedsInput(msgspec.Struct):
    """The work waits for the client (revision 2026-07-28, basic/patterns/mrtr).

    Attributes:
        questions: key -> request object ``{"method": ..., "params": ...}``.
        state: the backend's own opaque state, None if it keeps none in the client's hands.
        here: whether the state is of use in this process alone.
    """

    questions: dict[str, dict[str, Any]]
    state: str | None = None
    here: bool = False


Outcome = Complete | NeedsInput
