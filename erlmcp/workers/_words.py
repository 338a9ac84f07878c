"""What a parent and its workers say to each other, besides questions to the engine."""

from typing import Final

import msgspec

from erlmcp.supervision import Status


class Begin(msgspec.Struct, array_like=True):
    """What a worker is to be.

    Attributes:
        owner: its name in sealed tokens, ids of streams and of questions; no other process has it.
        slot: its number among the workers, from 1; for logs.
        settings: the configuration, as the daemon's entry reads it.
        keys: the sealing keys, newest first.
        places: listener's name -> where the parent accepts for it, if it is the parent that does; else empty.
        succeeds: whether another serves in its slot until it does: then there is time to make everything ready.
    """

    owner: str
    slot: int
    settings: bytes
    keys: list[bytes]
    places: dict[str, str]
    succeeds: bool = False


class Pulse(msgspec.Struct, array_like=True):
    """How a worker fares.

    Attributes:
        connections: open ones.
        in_flight: calls that wait for something.
        parked: calls that wait for their client's answer.
        backends: how what it serves fares.
    """

    connections: int
    in_flight: int
    parked: int = 0
    backends: list[Status] = []


class Ending(msgspec.Struct, array_like=True):
    """How a worker is to end.

    Attributes:
        seconds: how long it may take at most for what is under way.
        gently: whether another has its place: nobody who can come back is sent away, and what is parked is waited for.
    """

    seconds: float
    gently: bool


# What a backend says of itself may be anything.
encode: Final = msgspec.msgpack.Encoder(enc_hook=str).encode
read_begin: Final = msgspec.msgpack.Decoder(Begin).decode
read_pulse: Final = msgspec.msgpack.Decoder(Pulse).decode
read_ending: Final = msgspec.msgpack.Decoder(Ending).decode
