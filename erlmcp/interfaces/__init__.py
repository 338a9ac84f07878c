"""What crosses a boundary inside the house: the interfaces and the values that they speak of.

Bodies are elsewhere; this package has none. Plugin authors implement `ITransport`, `IProvider`, `IAuthenticator`,
`IPolicy`, `IEngine` or `IMiddleware`; the rest is how the floors talk to each other.
"""

from erlmcp.interfaces._backend import (
    Change,
    Definitions,
    IBackend,
    IClaims,
    IFollowing,
    IFollows,
    IHeardLater,
    IMiddleware,
    IProvider,
)
from erlmcp.interfaces._definitions import (
    HeaderParameter,
    IArguments,
    PromptDefinition,
    ResourceDefinition,
    TemplateDefinition,
    ToolDefinition,
)
from erlmcp.interfaces._engine import (
    Conflict,
    EngineError,
    EngineFull,
    Grant,
    IEngine,
    KeyChange,
    KeySnapshot,
    Lease,
    LeaseLost,
    NameTaken,
    NotDurable,
    Stored,
)
from erlmcp.interfaces._gates import (
    IAdmission,
    IAuthenticator,
    IAuthorize,
    ICounters,
    IGate,
    IPolicy,
    IRecord,
)
from erlmcp.interfaces._outcome import Complete, NeedsInput, Outcome
from erlmcp.interfaces._pending import Pending
from erlmcp.interfaces._request import IConversation, Request
from erlmcp.interfaces._transport import (
    IChannel,
    IConnectionLimits,
    IExchange,
    IListener,
    ITransport,
    ListenContext,
)
from erlmcp.interfaces._values import ANONYMOUS, Peer, Principal, WireLimits

__all__ = [
    "ANONYMOUS",
    "Change",
    "Complete",
    "Conflict",
    "Definitions",
    "EngineError",
    "EngineFull",
    "Grant",
    "HeaderParameter",
    "IAdmission",
    "IArguments",
    "IAuthenticator",
    "IAuthorize",
    "IBackend",
    "IChannel",
    "IClaims",
    "IConnectionLimits",
    "IConversation",
    "ICounters",
    "IEngine",
    "IExchange",
    "IFollowing",
    "IFollows",
    "IGate",
    "IHeardLater",
    "IListener",
    "IMiddleware",
    "IPolicy",
    "IProvider",
    "IRecord",
    "ITransport",
    "KeyChange",
    "KeySnapshot",
    "Lease",
    "LeaseLost",
    "ListenContext",
    "NameTaken",
    "NeedsInput",
    "NotDurable",
    "Outcome",
    "Peer",
    "Pending",
    "Principal",
    "PromptDefinition",
    "Request",
    "ResourceDefinition",
    "Stored",
    "TemplateDefinition",
    "ToolDefinition",
    "WireLimits",
]
