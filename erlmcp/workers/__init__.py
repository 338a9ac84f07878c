"""Worker processes: the sockets they share, the line to their parent, and the way between them.

The parent has a `Crew` under a supervisor (`Workers`), a worker its `Duties`; what a worker serves is put together by
`erlmcp.tap`.
"""

from erlmcp.workers._adopting import AdoptingReactor, passed
from erlmcp.workers._crew import Crew, Plan
from erlmcp.workers._duties import Duties, Kit, Work, die_with_parent
from erlmcp.workers._line import Line, LineLost, Refused, adopt, pair
from erlmcp.workers._logs import LogReader, log_to_parent
from erlmcp.workers._places import Place
from erlmcp.workers._process import State, WorkerDied, WorkerProcess
from erlmcp.workers._relay import Forwarded, Relay
from erlmcp.workers._service import Worker, Workers
from erlmcp.workers._words import Begin, Ending, Pulse

__all__ = [
    "AdoptingReactor",
    "Begin",
    "Crew",
    "Duties",
    "Ending",
    "Forwarded",
    "Kit",
    "Line",
    "LineLost",
    "LogReader",
    "Place",
    "Plan",
    "Pulse",
    "Refused",
    "Relay",
    "State",
    "Work",
    "Worker",
    "WorkerDied",
    "WorkerProcess",
    "Workers",
    "adopt",
    "die_with_parent",
    "log_to_parent",
    "pair",
    "passed",
]
