"""Child processes: launched, confined, and ended with all that they started."""

from erlmcp.processes._child import Child, ChildLimits, Grace, LaunchError, Receiver
from erlmcp.processes._command import INHERITED, Command, inherited_environment
from erlmcp.processes._confinement import UNCONFINED, Confinement
from erlmcp.processes._exit import Exit
from erlmcp.processes._lifecycle import State

__all__ = [
    "INHERITED",
    "UNCONFINED",
    "Child",
    "ChildLimits",
    "Command",
    "Confinement",
    "Exit",
    "Grace",
    "LaunchError",
    "Receiver",
    "State",
    "inherited_environment",
]
