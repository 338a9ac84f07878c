"""What is said between an engine and a process that it is not in, as msgpack."""

from typing import Any

import msgspec
from msgspec import Struct

from erlmcp.interfaces import (
    Conflict,
    EngineError,
    EngineFull,
    KeyChange,
    KeySnapshot,
    Lease,
    LeaseLost,
    NameTaken,
    NotDurable,
    Stored,
)


class Get(Struct, tag=True, array_like=True):
    """`IEngine.get`, and `lookup` of the key of a name."""

    key: str


class Put(Struct, tag=True, array_like=True):
    """`IEngine.put`."""

    key: str
    value: bytes
    expires: float | None
    lease: Lease | None
    expect: int | None
    durable: bool


class Delete(Struct, tag=True, array_like=True):
    """`IEngine.delete`."""

    key: str
    expect: int | None


class Register(Struct, tag=True, array_like=True):
    """`IEngine.register`."""

    name: str
    owner: str
    seconds: float


class Renew(Struct, tag=True, array_like=True):
    """`IEngine.renew`."""

    lease: Lease


class Release(Struct, tag=True, array_like=True):
    """`IEngine.release`."""

    lease: Lease


class Take(Struct, tag=True, array_like=True):
    """`IEngine.take`."""

    bucket: str
    want: int
    minimum: int
    rate: float
    burst: float


class Give(Struct, tag=True, array_like=True):
    """`IEngine.give`."""

    bucket: str
    count: int
    rate: float


Question = Get | Put | Delete | Register | Renew | Release | Take | Give
CHANGING = (Put, Delete, Register, Renew, Release)
"""What may change entries: answered when those who watch have heard of it."""


class Watch(Struct, tag=True, array_like=True):
    """`IEngine.watch`; `number` is the asker's own."""

    number: int
    prefix: str
    since: int | None


class Subscribe(Struct, tag=True, array_like=True):
    """`IEngine.subscribe`; likewise."""

    number: int
    topic: str


class End(Struct, tag=True, array_like=True):
    """The end of a watch or a subscription."""

    number: int


class Publish(Struct, tag=True, array_like=True):
    """`IEngine.publish`."""

    topic: str
    payload: bytes


Wish = Watch | Subscribe | End | Publish


class Changed(Struct, tag=True, array_like=True):
    """A change for a watcher."""

    number: int
    key: str
    value: bytes | None
    revision: int

    @property
    def news(self) -> KeyChange:
        """As `IEngine` has it."""
        return KeyChange(self.key, self.value, self.revision)


class Whole(Struct, tag=True, array_like=True):
    """A snapshot for a watcher."""

    number: int
    entries: dict[str, tuple[bytes, int]]
    revision: int

    @property
    def news(self) -> KeySnapshot:
        """As `IEngine` has it."""
        return KeySnapshot({key: Stored(*entry) for key, entry in self.entries.items()}, self.revision)


class Heard(Struct, tag=True, array_like=True):
    """A hint for who subscribes."""

    number: int
    payload: bytes


News = Changed | Whole | Heard


class Failed(Struct, tag=True, array_like=True):
    """An `EngineError`."""

    kind: str
    parts: list[Any]


class Done(Struct, tag=True, array_like=True):
    """A result."""

    value: Any


encode = msgspec.msgpack.Encoder().encode
read_question = msgspec.msgpack.Decoder(Question).decode
read_wish = msgspec.msgpack.Decoder(Wish).decode
read_news = msgspec.msgpack.Decoder(News).decode
read_answer = msgspec.msgpack.Decoder(Done | Failed).decode


def news_for(number: int, news: KeyChange | KeySnapshot) -> News:
    """News as they are sent."""
    if isinstance(news, KeySnapshot):
        entries = {key: (one.value, one.revision) for key, one in news.entries.items()}
        return Whole(number, entries, news.revision)
    return Changed(number, news.key, news.value, news.revision)


def failed(error: EngineError) -> Failed:
    """An error as it is sent."""
    if isinstance(error, Conflict):
        return Failed("conflict", [str(error), error.revision])
    if isinstance(error, NameTaken):
        return Failed("taken", [str(error), error.owner])
    kind = next((name for name, cls in _PLAIN.items() if type(error) is cls), "")
    return Failed(kind, [str(error)])


def raised(sent: Failed) -> EngineError:
    """An error as it was raised, with its words."""
    text = sent.parts[0]
    error: EngineError
    if sent.kind == "conflict":
        error = Conflict("", 0, sent.parts[1])
    elif sent.kind == "taken":
        error = NameTaken("", sent.parts[1])
    elif sent.kind == "lost":
        error = LeaseLost(Lease("", "", 0, 0.0))
    else:
        error = _PLAIN.get(sent.kind, EngineError)(text)
    error.args = (text,)
    return error


_PLAIN: dict[str, type[EngineError]] = {"lost": LeaseLost, "full": EngineFull, "volatile": NotDurable}
