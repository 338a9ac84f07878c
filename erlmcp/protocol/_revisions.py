"""The four revisions that begin with ``initialize``: what each of them has, and how one is agreed upon."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from erlmcp.protocol._cuts import CUTS
from erlmcp.protocol._versions import HANDSHAKE_VERSIONS


class Revision(Struct, frozen=True):
    """One handshake revision, as far as the edges have to act upon it.

    Attributes:
        name: the date that names it, as ``protocolVersion`` says it.
        rank: its place among the four, oldest first, from 0.
        batches: a document may be an array of messages (2025-03-26 alone).
        version_header: clients send ``MCP-Protocol-Version`` (2025-06-18 on).
        structured: results have ``structuredContent``, tools an ``outputSchema`` (2025-06-18 on).
        elicitation: clients can be asked with forms (2025-06-18 on).
        url_elicitation: clients can be asked to visit a URL (2025-11-25).
        sampling_tools: sampling has tools and several blocks in a message (2025-11-25).
        priming: a stream may begin with an empty event that carries an id (2025-11-25; older clients fail on it).
        argument_errors_in_result: arguments that a tool's schema refuses become a result with ``isError``
            (2025-11-25), else -32602.
    """

    name: str
    rank: int
    batches: bool = False
    version_header: bool = False
    structured: bool = False
    elicitation: bool = False
    url_elicitation: bool = False
    sampling_tools: bool = False
    priming: bool = False
    argument_errors_in_result: bool = False


REVISIONS: Final[Mapping[str, Revision]] = MappingProxyType(
    {
        revision.name: revision
        for revision in (
            Revision("2024-11-05", 0),
            Revision("2025-03-26", 1, batches=True),
            Revision("2025-06-18", 2, version_header=True, structured=True, elicitation=True),
            Revision(
                "2025-11-25",
                3,
                version_header=True,
                structured=True,
                elicitation=True,
                url_elicitation=True,
                sampling_tools=True,
                priming=True,
                argument_errors_in_result=True,
            ),
        )
    }
)
"""The handshake revisions by name, oldest first."""

_OFFERED: Final = REVISIONS[HANDSHAKE_VERSIONS[0]]


def negotiate(requested: str) -> Revision:
    """The revision that answers an ``initialize`` (basic/lifecycle, "Version Negotiation").

    A handshake revision gets itself; anything else, 2026-07-28 included, the newest of them.
    """
    return REVISIONS.get(requested, _OFFERED)


def initialize_result(
    revision: Revision,
    capabilities: Mapping[str, Any],
    server_info: Mapping[str, Any],
    instructions: str | None = None,
) -> dict[str, Any]:
    """The ``InitializeResult`` of a revision.

    Args:
        revision: what was agreed upon.
        capabilities: the ``ServerCapabilities`` that ``server/discover`` declares, cut here to what the revision has.
        server_info: the server's ``Implementation``, cut likewise.
        instructions: for the model; left out if empty.
    """
    cuts = CUTS[revision.rank]
    result: dict[str, Any] = {
        "protocolVersion": revision.name,
        "capabilities": cuts["capabilities"](dict(capabilities)),
        "serverInfo": cuts["serverInfo"](dict(server_info)),
    }
    if instructions:
        result["instructions"] = instructions
    return result
