"""The few members of a server's messages that matching them needs, read without looking at the rest."""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from erlmcp.protocol.notifications import SUBSCRIPTION_ID


class _Problem(Struct):
    code: int
    message: str = ""
    data: Any = UNSET


class _Meta(Struct):
    subscription: int | str | UnsetType = field(name=SUBSCRIPTION_ID, default=UNSET)


class _Tied(Struct):
    token: int | str | UnsetType = field(name="progressToken", default=UNSET)
    meta: _Meta | UnsetType = field(name="_meta", default=UNSET)


class _Withdrawn(Struct, rename="camel"):
    request_id: int | str | UnsetType = UNSET


read_problem: Final = msgspec.json.Decoder(_Problem).decode
"""An error object."""
read_tied: Final = msgspec.json.Decoder(_Tied).decode
"""The parameters of a notification: which request they belong to."""
read_withdrawn: Final = msgspec.json.Decoder(_Withdrawn).decode
"""The parameters of ``notifications/cancelled``."""
