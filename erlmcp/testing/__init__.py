"""Test doubles for those who write providers, transports and clients: in memory, without network or reactor.

`Harness` serves backends through the real pipeline and era edge, on a clock that the test turns; `Pair` adds a real
client; `StubServer` is the other side of a client under test, and remembers what it was asked.
"""

from erlmcp.testing._exchange import MemoryExchange
from erlmcp.testing._gates import permissive_gates
from erlmcp.testing._harness import Harness
from erlmcp.testing._stub import Pair, StubServer
from erlmcp.testing._wires import ChannelWire, StubWire

__all__ = ["ChannelWire", "Harness", "MemoryExchange", "Pair", "StubServer", "StubWire", "permissive_gates"]
