"""What systemd and a service tell each other (sd_notify(3)): readiness, reloads, the watchdog. Usable without MCP."""

from erlmcp.systemd._journal import read_by_journal
from erlmcp.systemd._notify import Notifier
from erlmcp.systemd._watchdog import Watchdog

__all__ = ["Notifier", "Watchdog", "read_by_journal"]
