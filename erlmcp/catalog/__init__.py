"""Providers, tools, resources and prompts; their schemas; the catalog of them all; the gates that know schemas."""

from erlmcp.catalog._answers import Answer, Root, Sampled
from erlmcp.catalog._calls import require_asyncio_reactor
from erlmcp.catalog._catalog import Catalog
from erlmcp.catalog._content import (
    Audio,
    Block,
    Content,
    Contents,
    EmbeddedResource,
    Image,
    Message,
    ResourceLink,
    Text,
    ToolResult,
)
from erlmcp.catalog._context import Context
from erlmcp.catalog._errors import (
    InexpressibleHint,
    InputDeclined,
    InvalidArguments,
    InvalidSchema,
    NameCollision,
    ResourceNotFound,
    ToolError,
    UnsupportedDialect,
)
from erlmcp.catalog._field import Field
from erlmcp.catalog._following import Following
from erlmcp.catalog._gates import AnswerGate, ValidateGate
from erlmcp.catalog._header_parameters import header_parameters
from erlmcp.catalog._provider import Provider
from erlmcp.catalog._results import Completion
from erlmcp.catalog._schemas import CompiledSchema
from erlmcp.catalog._search import SearchAuthorize, SearchCatalog

__all__ = [
    "Answer",
    "AnswerGate",
    "Audio",
    "Block",
    "Catalog",
    "CompiledSchema",
    "Completion",
    "Content",
    "Contents",
    "Context",
    "EmbeddedResource",
    "Field",
    "Following",
    "Image",
    "InexpressibleHint",
    "InputDeclined",
    "InvalidArguments",
    "InvalidSchema",
    "Message",
    "NameCollision",
    "Provider",
    "ResourceLink",
    "ResourceNotFound",
    "Root",
    "Sampled",
    "SearchAuthorize",
    "SearchCatalog",
    "Text",
    "ToolError",
    "ToolResult",
    "UnsupportedDialect",
    "ValidateGate",
    "header_parameters",
    "require_asyncio_reactor",
]
