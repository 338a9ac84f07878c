"""The gates' decisions: each a small module with one question.

The gates that stand here are the defaults: bounds are held, and whoever may connect may use everything. Breakers and
retry budgets are for the way to upstreams.
"""

from erlmcp.governor._admit import AdmitGate
from erlmcp.governor._authenticate import AuthenticateGate
from erlmcp.governor._authorize import AuthorizeGate
from erlmcp.governor._breaker import Breaker, BreakerPolicy, BreakerState, Refused, Report
from erlmcp.governor._connections import ConnectionLimits
from erlmcp.governor._limits import LimitsGate
from erlmcp.governor._rate import RateGate
from erlmcp.governor._retry_budget import RetryBudget

__all__ = [
    "AdmitGate",
    "AuthenticateGate",
    "AuthorizeGate",
    "Breaker",
    "BreakerPolicy",
    "BreakerState",
    "ConnectionLimits",
    "LimitsGate",
    "RateGate",
    "Refused",
    "Report",
    "RetryBudget",
]
