"""erlmcp: the MCP server that you run like a daemon.

The names that authors use are offered here and loaded on first use (PEP 562), so that
``import erlmcp.protocol`` never pulls Twisted in under the ground floor.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.catalog import (
        Audio,
        Block,
        Completion,
        Contents,
        Context,
        EmbeddedResource,
        Field,
        Image,
        InputDeclined,
        Message,
        Provider,
        ResourceLink,
        ResourceNotFound,
        Text,
        ToolError,
        ToolResult,
    )

__version__ = "0.1.0"

__all__ = [
    "Audio",
    "Block",
    "Completion",
    "Contents",
    "Context",
    "EmbeddedResource",
    "Field",
    "Image",
    "InputDeclined",
    "Message",
    "Provider",
    "ResourceLink",
    "ResourceNotFound",
    "Text",
    "ToolError",
    "ToolResult",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("erlmcp.catalog"), name)
    raise AttributeError(f"module 'erlmcp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
