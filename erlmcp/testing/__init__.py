"""Test doubles for those who write providers and transports: a server in memory, without network or reactor.

`Harness` serves backends through the real pipeline and era edge, on a clock that the test turns.
"""

from erlmcp.testing._exchange import MemoryExchange
from erlmcp.testing._gates import permissive_gates
from erlmcp.testing._harness import Harness

__all__ = ["Harness", "MemoryExchange", "permissive_gates"]
