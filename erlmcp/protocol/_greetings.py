"""What a client says of itself when it begins a session, and what it answers when it is asked."""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from erlmcp.protocol._capabilities import (
    NO_CAPABILITIES,
    ClientCapabilities,
    ElicitationCapability,
    SamplingCapability,
)
from erlmcp.protocol._errors import McpError, internal, invalid_params
from erlmcp.protocol._levels import LOG_LEVELS
from erlmcp.protocol._meta import Implementation
from erlmcp.protocol._params import Params
from erlmcp.protocol._revisions import Revision, negotiate


class Greeting(Struct, frozen=True):
    """An ``initialize`` request, read.

    Attributes:
        revision: what the session will speak.
        capabilities: what the client can do, as far as the revision knows it.
        client: the client's name and version, as it says itself.
    """

    revision: Revision
    capabilities: ClientCapabilities
    client: Implementation


class _ClientError(Struct):
    code: int
    message: str
    data: Any = UNSET


_CONTEXT: Final[dict[str, Raw]] = {}
_LONGEST: Final = 1000
_read_capabilities: Final = msgspec.json.Decoder(ClientCapabilities).decode
_read_implementation: Final = msgspec.json.Decoder(Implementation).decode
_read_result: Final = msgspec.json.Decoder(dict[str, Any]).decode
_read_error: Final = msgspec.json.Decoder(_ClientError).decode


def read_greeting(params: Params | UnsetType) -> Greeting:
    """Read the parameters of an ``initialize`` request (basic/lifecycle, "Initialization").

    Raises:
        McpError: -32602 that names what is missing or wrong.
    """
    if params is UNSET or not isinstance(params.protocol_version, str):
        raise invalid_params("initialize needs params.protocolVersion")
    if params.capabilities is UNSET:
        raise invalid_params("initialize needs params.capabilities")
    if params.client_info is UNSET:
        raise invalid_params("initialize needs params.clientInfo")
    revision = negotiate(params.protocol_version)
    try:
        client = _read_implementation(params.client_info)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise invalid_params(_located(problem, "params.clientInfo")) from None
    return Greeting(revision, client_capabilities(params.capabilities, revision), client)


def client_capabilities(raw: Raw | bytes | UnsetType, revision: Revision) -> ClientCapabilities:
    """What a client declared in ``initialize``, cut to what the revision knows.

    Before 2025-11-25 a client that samples may always be asked to include context, and one that elicits has forms
    alone; both are given so.

    Args:
        raw: the ``capabilities`` object; UNSET reads as none.
        revision: the revision agreed upon, not the one asked for.

    Raises:
        McpError: -32602, a known capability has a value of the wrong kind.
    """
    if raw is UNSET:
        return NO_CAPABILITIES
    try:
        declared = _read_capabilities(raw)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise invalid_params(_located(problem, "params.capabilities")) from None
    elicitation, sampling = declared.elicitation, declared.sampling
    if elicitation is not UNSET and not revision.url_elicitation:
        elicitation = ElicitationCapability() if revision.elicitation else UNSET
    if sampling is not UNSET and not revision.sampling_tools:
        sampling = SamplingCapability(context=_CONTEXT)
    return ClientCapabilities(elicitation, sampling, declared.roots, UNSET, declared.experimental)


def read_level(params: Params | UnsetType) -> str:
    """The level of a ``logging/setLevel`` request (server/utilities/logging).

    Raises:
        McpError: -32602, there is none or it is none of `LOG_LEVELS`.
    """
    level = UNSET if params is UNSET else params.level
    if level is UNSET:
        raise invalid_params("logging/setLevel needs params.level")
    if level not in LOG_LEVELS:
        raise invalid_params(f"params.level must be one of {', '.join(LOG_LEVELS)}")
    return level


def read_response(result: Raw | UnsetType, error: Raw | UnsetType) -> dict[str, Any]:
    """A client's response to a request of ours.

    Args:
        result: the message's ``result``, not yet parsed.
        error: its ``error``, likewise; one of the two is UNSET.

    Returns:
        The result object; whether it answers the question, `check_answer` says.

    Raises:
        McpError: the client's error; or -32603, what it sent is neither.
    """
    try:
        if error is UNSET:
            return _read_result(result)  # type: ignore[arg-type]  # one of the two is there
        problem = _read_error(error)
    except (msgspec.DecodeError, RecursionError):
        raise internal("The client's response is neither a result object nor an error object") from None
    raise McpError(problem.code, problem.message[:_LONGEST], problem.data)


def _located(problem: Exception, path: str) -> str:
    """Msgspec's message with ``$`` of its path written as `path`."""
    return f"Invalid {path}: {str(problem).replace('`$', f'`{path}', 1)}"
