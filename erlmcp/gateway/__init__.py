"""Other MCP servers as backends: pooled, translated between the eras, merged under names of their own."""

from erlmcp.gateway._access import Access, ChildAccess, HttpAccess, StreamAccess
from erlmcp.gateway._credentials import UpstreamCredentials
from erlmcp.gateway._importing import Imported, read_host
from erlmcp.gateway._leases import PoolSettings
from erlmcp.gateway._metrics import expose
from erlmcp.gateway._names import Naming, naming_problems
from erlmcp.gateway._own import tell
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
from erlmcp.gateway._upstream import Plan, Upstream

__all__ = [
    "PINS_FILE",
    "Accepted",
    "Access",
    "ChildAccess",
    "Differences",
    "HttpAccess",
    "Imported",
    "Naming",
    "Plan",
    "PoolSettings",
    "StreamAccess",
    "Upstream",
    "UpstreamCredentials",
    "accepted",
    "compare",
    "digests",
    "expose",
    "naming_problems",
    "read_host",
    "read_pins",
    "tell",
    "write_pins",
]
