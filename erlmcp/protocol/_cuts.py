"""The cuts of each revision: which kind of object is cut how, from the table of fields."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from erlmcp.protocol import _meta
from erlmcp.protocol._fields import RANKS, known_fields
from erlmcp.protocol._shapes import Blocks, Cut, Object, Shape, each, either, is_object, members_of
from erlmcp.protocol._tool_schemas import WRAPPER, down_input_schema, down_output_schema

HOP_KEYS: Final = frozenset(
    {
        _meta.PROTOCOL_VERSION_KEY,
        _meta.CLIENT_INFO_KEY,
        _meta.CLIENT_CAPABILITIES_KEY,
        _meta.LOG_LEVEL_KEY,
        _meta.SERVER_INFO_KEY,
        _meta.SUBSCRIPTION_ID_KEY,
    }
)
"""The keys of `_meta` that are between one modern client and its server; all others pass."""

_REMEMBERED: Final = 2048
_LARGEST: Final = 8 * 1024
_encode: Final = msgspec.json.Encoder().encode


def cut_meta(value: Any) -> Any:
    """A result's or notification's `_meta` without the hop's own keys; UNSET if nothing is left of it."""
    members = members_of(value)
    if members is None or not (members.keys() & HOP_KEYS):
        return value
    return {name: part for name, part in members.items() if name not in HOP_KEYS} or UNSET


def wrap_structured(value: Object) -> Object:
    """An object whose ``structuredContent``, if it is none itself, is wrapped."""
    if "structuredContent" not in value or is_object(value["structuredContent"]):
        return value
    return {**value, "structuredContent": {WRAPPER: value["structuredContent"]}}


class _ToolResult(Shape):
    """Sampling's block of what a tool answered: ``structuredContent`` is an object up to 2025-11-25."""

    __slots__ = ()

    def cut(self, value: Any) -> Any:
        members = members_of(value)
        return value if members is None else super().cut(wrap_structured(members))


class _Contents:
    """The contents of a resource: text, or else bytes."""

    __slots__ = ("_blob", "_text")

    def __init__(self, text: Shape, blob: Shape) -> None:
        self._text = text
        self._blob = blob

    def cut(self, value: Any) -> Any:
        members = members_of(value)
        if members is None:
            return value
        return (self._text if "text" in members else self._blob).cut(value)


class _Entries:
    """The cut of one kind of list entry; what became of the last encoded ones is remembered."""

    __slots__ = ("_known", "_shape")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._known: dict[bytes, Raw] = {}

    def cut(self, entry: Any) -> Any:
        """One entry; of an encoded one an encoded one."""
        if type(entry) is not Raw:
            return self._shape.cut(entry)
        text = bytes(entry)
        known = self._known.get(text)
        if known is None:
            cut = self._shape.cut(entry)
            known = entry if cut is entry else Raw(_encode(cut))
            if len(text) <= _LARGEST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[text] = known
        return known


def _cuts(rank: int) -> Mapping[str, Cut]:
    def shape(definition: str, **inner: Cut) -> Shape:
        return Shape(known_fields(definition, rank), inner)

    noted = {"annotations": shape("Annotations").cut}
    shown = {"icons": each(shape("Icon").cut)}
    contents = _Contents(shape("TextResourceContents"), shape("BlobResourceContents")).cut
    blocks = {
        "text": shape("TextContent", **noted),
        "image": shape("ImageContent", **noted),
        "resource": shape("EmbeddedResource", resource=contents, **noted),
    }
    if rank >= 1:
        blocks["audio"] = shape("AudioContent", **noted)
    sampled = {name: block for name, block in blocks.items() if name != "resource"}
    if rank >= 2:
        blocks["resource_link"] = shape("ResourceLink", **noted, **shown)
    content = Blocks(blocks).cut
    if rank >= 3:
        sampled["tool_use"] = shape("ToolUseContent")
        sampled["tool_result"] = _ToolResult(
            known_fields("ToolResultContent", rank), {"content": each(content)}
        )
    tool = shape(
        "Tool",
        annotations=shape("ToolAnnotations").cut,
        inputSchema=down_input_schema,
        outputSchema=down_output_schema,
        **shown,
    )
    prompt = shape("Prompt", arguments=each(shape("PromptArgument").cut), **shown)
    message = shape("PromptMessage", content=content)
    sample = shape("SamplingMessage", content=either(Blocks(sampled).cut))
    tools = _Entries(tool).cut
    resources = _Entries(shape("Resource", **noted, **shown)).cut
    templates = _Entries(shape("ResourceTemplate", **noted, **shown)).cut
    prompts = _Entries(prompt).cut
    own = {"_meta": cut_meta}
    results = {
        "tools/list": shape("ListToolsResult", tools=each(tools), **own),
        "tools/call": shape("CallToolResult", content=each(content), **own),
        "resources/list": shape("ListResourcesResult", resources=each(resources), **own),
        "resources/templates/list": shape(
            "ListResourceTemplatesResult", resourceTemplates=each(templates), **own
        ),
        "resources/read": shape("ReadResourceResult", contents=each(contents), **own),
        "prompts/list": shape("ListPromptsResult", prompts=each(prompts), **own),
        "prompts/get": shape("GetPromptResult", messages=each(message.cut), **own),
        "completion/complete": shape(
            "CompleteResult", completion=shape("CompleteResult.completion").cut, **own
        ),
        "notifications/progress": shape("ProgressNotificationParams", **own),
        "notifications/message": shape("LoggingMessageNotificationParams", **own),
        "notifications/resources/updated": shape("ResourceUpdatedNotificationParams", **own),
        "notifications/cancelled": shape("CancelledNotificationParams", **own),
        "notifications/tools/list_changed": shape("NotificationParams", **own),
        "notifications/prompts/list_changed": shape("NotificationParams", **own),
        "notifications/resources/list_changed": shape("NotificationParams", **own),
        "serverInfo": shape("Implementation", **shown),
        "capabilities": shape(
            "ServerCapabilities",
            prompts=shape("ServerCapabilities.prompts").cut,
            resources=shape("ServerCapabilities.resources").cut,
            tools=shape("ServerCapabilities.tools").cut,
        ),
        "sampling/createMessage": shape(
            "CreateMessageRequestParams",
            messages=each(sample.cut),
            modelPreferences=shape("ModelPreferences", hints=each(shape("ModelHint").cut)).cut,
            tools=each(tool.cut),
            toolChoice=shape("ToolChoice").cut,
        ),
        "elicitation/create form": shape(
            "ElicitRequestFormParams", requestedSchema=shape("ElicitRequestFormParams.requestedSchema").cut
        ),
        "elicitation/create url": shape("ElicitRequestURLParams"),
        "StringSchema": shape("StringSchema"),
        "NumberSchema": shape("NumberSchema"),
        "BooleanSchema": shape("BooleanSchema"),
        "LegacyTitledEnumSchema": shape("LegacyTitledEnumSchema"),
    }
    return {
        **{kind: shape.cut for kind, shape in results.items()},
        "tool": tools,
        "resource": resources,
        "template": templates,
        "prompt": prompts,
    }


CUTS: Final[tuple[Mapping[str, Cut], ...]] = tuple(_cuts(rank) for rank in range(RANKS))
"""By a revision's rank: kind -> cut. Kinds are the methods of results and notifications; ``serverInfo``,
``capabilities``; the parameters of questions by their methods; the fields of forms by their definitions; and one
list entry: ``tool``, ``resource``, ``template``, ``prompt``."""
