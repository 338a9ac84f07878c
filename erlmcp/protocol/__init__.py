"""MCP's messages, versions, eras, errors and sealed tokens. No I/O: pure functions of what they are given.

The revision is 2026-07-28 throughout, unless a name says otherwise: handshake is said of the four before it.
"""

from erlmcp.protocol import _errors as errors
from erlmcp.protocol import notifications
from erlmcp.protocol._answers import check_answer
from erlmcp.protocol._capabilities import (
    NO_CAPABILITIES,
    ClientCapabilities,
    ElicitationCapability,
    SamplingCapability,
)
from erlmcp.protocol._cursors import Cursors
from erlmcp.protocol._down_questions import down_question
from erlmcp.protocol._downgrade import down, down_definition, down_error, wraps_output
from erlmcp.protocol._eras import (
    Decision,
    Era,
    Verdict,
    bare_http_status,
    check_batch,
    check_modern,
    classify_notification,
    classify_request,
    classify_response,
    classify_session,
    has_envelope,
    missing_envelope,
    refuse_array,
)
from erlmcp.protocol._errors import McpError, http_status
from erlmcp.protocol._greetings import (
    Greeting,
    client_capabilities,
    read_greeting,
    read_level,
    read_response,
)
from erlmcp.protocol._headers import (
    check_headers,
    check_parameter_headers,
    decode_header_value,
    encode_header_value,
)
from erlmcp.protocol._levels import LOG_LEVELS, at_least
from erlmcp.protocol._meta import NO_META, Implementation, Meta, read_meta, reserved_meta_key, valid_meta_key
from erlmcp.protocol._methods import HANDSHAKE_METHODS, METHODS, Method
from erlmcp.protocol._params import (
    CompletionArgument,
    CompletionContext,
    Params,
    Reference,
    SubscriptionFilter,
    check_params,
)
from erlmcp.protocol._questions import Question
from erlmcp.protocol._results import cached, complete, input_required, server_info_meta
from erlmcp.protocol._revisions import REVISIONS, Revision, initialize_result, negotiate
from erlmcp.protocol._sealing import BadSeal, KeyRing, Sealer
from erlmcp.protocol._sessions import (
    LostSession,
    SessionToken,
    SessionTokens,
    capability_bits,
    principal_binding,
)
from erlmcp.protocol._templates import UriTemplate
from erlmcp.protocol._trace_context import TraceParent, read_trace, read_traceparent, trace_of_headers
from erlmcp.protocol._versions import HANDSHAKE_VERSIONS, MODERN, MODERN_VERSIONS

__all__ = [
    "HANDSHAKE_METHODS",
    "HANDSHAKE_VERSIONS",
    "LOG_LEVELS",
    "METHODS",
    "MODERN",
    "MODERN_VERSIONS",
    "NO_CAPABILITIES",
    "NO_META",
    "REVISIONS",
    "BadSeal",
    "ClientCapabilities",
    "CompletionArgument",
    "CompletionContext",
    "Cursors",
    "Decision",
    "ElicitationCapability",
    "Era",
    "Greeting",
    "Implementation",
    "KeyRing",
    "LostSession",
    "McpError",
    "Meta",
    "Method",
    "Params",
    "Question",
    "Reference",
    "Revision",
    "SamplingCapability",
    "Sealer",
    "SessionToken",
    "SessionTokens",
    "SubscriptionFilter",
    "TraceParent",
    "UriTemplate",
    "Verdict",
    "at_least",
    "bare_http_status",
    "cached",
    "capability_bits",
    "check_answer",
    "check_batch",
    "check_headers",
    "check_modern",
    "check_parameter_headers",
    "check_params",
    "classify_notification",
    "classify_request",
    "classify_response",
    "classify_session",
    "client_capabilities",
    "complete",
    "decode_header_value",
    "down",
    "down_definition",
    "down_error",
    "down_question",
    "encode_header_value",
    "errors",
    "has_envelope",
    "http_status",
    "initialize_result",
    "input_required",
    "missing_envelope",
    "negotiate",
    "notifications",
    "principal_binding",
    "read_greeting",
    "read_level",
    "read_meta",
    "read_response",
    "read_trace",
    "read_traceparent",
    "refuse_array",
    "reserved_meta_key",
    "server_info_meta",
    "trace_of_headers",
    "valid_meta_key",
    "wraps_output",
]
