"""Which fields the handshake revisions know: a table for each definition of the published schemas.

``tests/test_protocol_handshake_fields.py`` derives the same from the schemas and compares. What 2026-07-28 has not is
left out here too, such as the tasks of 2025-11-25: it is not offered.
"""

from collections.abc import Mapping
from typing import Final

from erlmcp.protocol._versions import HANDSHAKE_VERSIONS

_Since = Mapping[str, int]

RANKS: Final = len(HANDSHAKE_VERSIONS)
"""How many handshake revisions there are. Below, a field's number is the rank of the first one that knows it:
0 is 2024-11-05, 1 is 2025-03-26, 2 is 2025-06-18, 3 is 2025-11-25."""

_MEDIA: Final = {"data": 0, "mimeType": 0, "annotations": 0, "_meta": 2}
_RESOURCE: Final = {
    "uri": 0,
    "name": 0,
    "title": 2,
    "description": 0,
    "mimeType": 0,
    "size": 0,
    "annotations": 0,
    "icons": 3,
    "_meta": 2,
}
_PRIMITIVE: Final = {"type": 2, "title": 2, "description": 2}
_LIST_CHANGED: Final = {"listChanged": 0}

FIELDS: Final[Mapping[str, _Since]] = {
    # Values
    "Annotations": {"audience": 0, "priority": 0, "lastModified": 2},
    "Icon": {"src": 3, "mimeType": 3, "sizes": 3, "theme": 3},
    "Implementation": {"name": 0, "version": 0, "title": 2, "description": 3, "icons": 3, "websiteUrl": 3},
    "ToolAnnotations": {
        "title": 1,
        "readOnlyHint": 1,
        "destructiveHint": 1,
        "idempotentHint": 1,
        "openWorldHint": 1,
    },
    "ServerCapabilities": {
        "experimental": 0,
        "logging": 0,
        "completions": 1,
        "prompts": 0,
        "resources": 0,
        "tools": 0,
    },
    "ServerCapabilities.prompts": _LIST_CHANGED,
    "ServerCapabilities.resources": {**_LIST_CHANGED, "subscribe": 0},
    "ServerCapabilities.tools": _LIST_CHANGED,
    # Content
    "TextContent": {"type": 0, "text": 0, "annotations": 0, "_meta": 2},
    "ImageContent": {"type": 0, **_MEDIA},
    "AudioContent": {"type": 1, **_MEDIA},
    "EmbeddedResource": {"type": 0, "resource": 0, "annotations": 0, "_meta": 2},
    "ResourceLink": {"type": 2, **_RESOURCE},
    "ToolUseContent": {"type": 3, "id": 3, "name": 3, "input": 3, "_meta": 3},
    "ToolResultContent": {
        "type": 3,
        "toolUseId": 3,
        "content": 3,
        "structuredContent": 3,
        "isError": 3,
        "_meta": 3,
    },
    "TextResourceContents": {"uri": 0, "mimeType": 0, "text": 0, "_meta": 2},
    "BlobResourceContents": {"uri": 0, "mimeType": 0, "blob": 0, "_meta": 2},
    "PromptMessage": {"role": 0, "content": 0},
    "SamplingMessage": {"role": 0, "content": 0, "_meta": 3},
    # What lists have
    "Tool": {
        "name": 0,
        "title": 2,
        "description": 0,
        "inputSchema": 0,
        "outputSchema": 2,
        "annotations": 1,
        "icons": 3,
        "_meta": 2,
    },
    "Resource": _RESOURCE,
    "ResourceTemplate": {
        "uriTemplate": 0,
        "name": 0,
        "title": 2,
        "description": 0,
        "mimeType": 0,
        "annotations": 0,
        "icons": 3,
        "_meta": 2,
    },
    "Prompt": {"name": 0, "title": 2, "description": 0, "arguments": 0, "icons": 3, "_meta": 2},
    "PromptArgument": {"name": 0, "title": 2, "description": 0, "required": 0},
    # Results
    "ListToolsResult": {"tools": 0, "nextCursor": 0, "_meta": 0},
    "ListResourcesResult": {"resources": 0, "nextCursor": 0, "_meta": 0},
    "ListResourceTemplatesResult": {"resourceTemplates": 0, "nextCursor": 0, "_meta": 0},
    "ListPromptsResult": {"prompts": 0, "nextCursor": 0, "_meta": 0},
    "CallToolResult": {"content": 0, "isError": 0, "structuredContent": 2, "_meta": 0},
    "ReadResourceResult": {"contents": 0, "_meta": 0},
    "GetPromptResult": {"description": 0, "messages": 0, "_meta": 0},
    "CompleteResult": {"completion": 0, "_meta": 0},
    "CompleteResult.completion": {"values": 0, "total": 0, "hasMore": 0},
    # Notifications
    "ProgressNotificationParams": {"progressToken": 0, "progress": 0, "total": 0, "message": 1, "_meta": 0},
    "LoggingMessageNotificationParams": {"level": 0, "logger": 0, "data": 0, "_meta": 0},
    "ResourceUpdatedNotificationParams": {"uri": 0, "_meta": 0},
    "CancelledNotificationParams": {"requestId": 0, "reason": 0, "_meta": 0},
    "NotificationParams": {"_meta": 0},
    # Questions
    "CreateMessageRequestParams": {
        "messages": 0,
        "modelPreferences": 0,
        "systemPrompt": 0,
        "includeContext": 0,
        "temperature": 0,
        "maxTokens": 0,
        "stopSequences": 0,
        "metadata": 0,
        "tools": 3,
        "toolChoice": 3,
    },
    "ModelPreferences": {
        "hints": 0,
        "costPriority": 0,
        "speedPriority": 0,
        "intelligencePriority": 0,
    },
    "ModelHint": {"name": 0},
    "ToolChoice": {"mode": 3},
    "ElicitRequestFormParams": {"message": 2, "requestedSchema": 2, "mode": 3},
    "ElicitRequestFormParams.requestedSchema": {"type": 2, "properties": 2, "required": 2, "$schema": 3},
    "ElicitRequestURLParams": {"message": 3, "url": 3, "mode": 3, "elicitationId": 3},
    "StringSchema": {**_PRIMITIVE, "minLength": 2, "maxLength": 2, "format": 2, "default": 3},
    "NumberSchema": {**_PRIMITIVE, "minimum": 2, "maximum": 2, "default": 3},
    "BooleanSchema": {**_PRIMITIVE, "default": 2},
    "LegacyTitledEnumSchema": {**_PRIMITIVE, "enum": 2, "enumNames": 2, "default": 3},
}
"""Definition -> field -> rank of the first revision that knows it. A definition that a revision has not may still be
in the table with fields of an earlier one; who uses it knows from when on."""


def known_fields(definition: str, rank: int) -> frozenset[str]:
    """The fields of a definition that the revision of this rank knows."""
    return frozenset(name for name, since in FIELDS[definition].items() if since <= rank)
