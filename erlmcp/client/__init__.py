"""An MCP client for Twisted: any server, either era, over any transport."""

from erlmcp.client._answers import CANCEL, DECLINE, Answering, Answers, CannotAnswer, accept
from erlmcp.client._backoff import Backoff
from erlmcp.client._cache import Cache
from erlmcp.client._client import Client
from erlmcp.client._connection import Connection
from erlmcp.client._conversation import Attempt
from erlmcp.client._edges import Edge
from erlmcp.client._errors import (
    NO_PLACE,
    BadAnswer,
    Busy,
    ClientError,
    Disconnected,
    NotOffered,
    ServerError,
    TimedOut,
    TooManyRounds,
)
from erlmcp.client._http_site import HttpLimits
from erlmcp.client._identity import Identity
from erlmcp.client._mirrors import Mirrors, mirrored_headers
from erlmcp.client._opening import EraMemory, Opening
from erlmcp.client._results import (
    AudioContent,
    CallResult,
    Completion,
    CompletionResult,
    Content,
    Elicitation,
    EmbeddedResource,
    ImageContent,
    LogMessage,
    Progress,
    Prompt,
    PromptArgument,
    PromptMessage,
    PromptResult,
    ReadResult,
    Resource,
    ResourceContents,
    ResourceLink,
    ResourceTemplate,
    Server,
    ServerInfo,
    TextContent,
    Tool,
    UnknownContent,
)
from erlmcp.client._rounds import needs_input
from erlmcp.client._subscriptions import Change, Subscription, change_of
from erlmcp.client._targets import Target, http, stdio, stream, target
from erlmcp.client._watching import read_message, read_progress
from erlmcp.client._wire import Inbox, Outgoing, Session, Wire, WireError, WireMaker

__all__ = [
    "CANCEL",
    "DECLINE",
    "NO_PLACE",
    "Answering",
    "Answers",
    "Attempt",
    "AudioContent",
    "Backoff",
    "BadAnswer",
    "Busy",
    "Cache",
    "CallResult",
    "CannotAnswer",
    "Change",
    "Client",
    "ClientError",
    "Completion",
    "CompletionResult",
    "Connection",
    "Content",
    "Disconnected",
    "Edge",
    "Elicitation",
    "EmbeddedResource",
    "EraMemory",
    "HttpLimits",
    "Identity",
    "ImageContent",
    "Inbox",
    "LogMessage",
    "Mirrors",
    "NotOffered",
    "Opening",
    "Outgoing",
    "Progress",
    "Prompt",
    "PromptArgument",
    "PromptMessage",
    "PromptResult",
    "ReadResult",
    "Resource",
    "ResourceContents",
    "ResourceLink",
    "ResourceTemplate",
    "Server",
    "ServerError",
    "ServerInfo",
    "Session",
    "Subscription",
    "Target",
    "TextContent",
    "TimedOut",
    "TooManyRounds",
    "Tool",
    "UnknownContent",
    "Wire",
    "WireError",
    "WireMaker",
    "accept",
    "change_of",
    "http",
    "mirrored_headers",
    "needs_input",
    "read_message",
    "read_progress",
    "stdio",
    "stream",
    "target",
]
