"""The gates' decisions: each a small module with one question.

What stands here are the defaults: bounds are held, and whoever may connect may use everything.
"""

from erlmcp.governor._admit import AdmitGate
from erlmcp.governor._authenticate import AuthenticateGate
from erlmcp.governor._authorize import AuthorizeGate
from erlmcp.governor._connections import ConnectionLimits
from erlmcp.governor._limits import LimitsGate
from erlmcp.governor._rate import RateGate

__all__ = ["AdmitGate", "AuthenticateGate", "AuthorizeGate", "ConnectionLimits", "LimitsGate", "RateGate"]
