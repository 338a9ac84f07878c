"""Who the client says it is, in the words of either era."""

from typing import Any, Final

import msgspec
from msgspec import Raw

from erlmcp.protocol import HANDSHAKE_VERSIONS, MODERN

_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
_CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"
_OWN: Final = frozenset({_VERSION_KEY, _INFO_KEY, _CAPABILITIES_KEY, _LEVEL_KEY, "progressToken"})

LATEST_HANDSHAKE: Final = HANDSHAKE_VERSIONS[0]
"""What ``initialize`` asks for, unless told otherwise."""


class Identity:
    """A client's name, version and capabilities.

    Args:
        name: for the server's display.
        version: the program's.
        capabilities: ``ClientCapabilities`` of revision 2026-07-28.
        title: a name for people; empty for none.
    """

    def __init__(self, name: str, version: str, capabilities: dict[str, Any], title: str = "") -> None:
        info = {"name": name, "version": version}
        if title:
            info["title"] = title
        self._info = info
        self._capabilities = capabilities
        self._envelope: dict[str, Any] = {
            _VERSION_KEY: MODERN,
            _INFO_KEY: Raw(msgspec.json.encode(info)),
            _CAPABILITIES_KEY: Raw(msgspec.json.encode(capabilities)),
        }
        self._usual = Raw(msgspec.json.encode(self._envelope))

    def envelope(
        self, token: int | None, level: str | None, meta: dict[str, Any] | None
    ) -> Raw | dict[str, Any]:
        """The `_meta` of a modern request (basic/index, "_meta")."""
        if token is None and level is None and not meta:
            return self._usual
        return {
            **_foreign(meta),
            **self._envelope,
            **_token(token),
            **({} if level is None else {_LEVEL_KEY: level}),
        }

    @staticmethod
    def handshake_meta(token: int | None, meta: dict[str, Any] | None) -> dict[str, Any]:
        """The `_meta` of a request within a session; empty for none."""
        return {**_foreign(meta), **_token(token)}

    def greeting(self, version: str = LATEST_HANDSHAKE) -> dict[str, Any]:
        """The parameters of ``initialize`` (2025-11-25, basic/lifecycle)."""
        return {
            "protocolVersion": version,
            "capabilities": self._capabilities,
            "clientInfo": self._info,
        }


def _foreign(meta: dict[str, Any] | None) -> dict[str, Any]:
    """What a caller adds; the protocol's own keys belong to this hop."""
    return {key: value for key, value in (meta or {}).items() if key not in _OWN}


def _token(token: int | None) -> dict[str, Any]:
    return {} if token is None else {"progressToken": token}
