"""Other MCP servers as backends: pooled, translated between the eras, merged under names of their own."""

from erlmcp.gateway._importing import Imported, read_host
from erlmcp.gateway._names import Naming, naming_problems
from erlmcp.gateway._pins import (
    PINS_FILE,
    Accepted,
    Differences,
    accepted,
    compare,
    digests,
    read_pins,
    write_pins,
)

__all__ = [
    "PINS_FILE",
    "Accepted",
    "Differences",
    "Imported",
    "Naming",
    "accepted",
    "compare",
    "digests",
    "naming_problems",
    "read_host",
    "read_pins",
    "write_pins",
]
