"""What an upstream lists, as definitions under the names that it has here. Pure.

Entries that need not change keep their bytes; what clients of 2026-07-28 could not read is mended or left out.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from erlmcp.catalog import InvalidSchema, header_parameters
from erlmcp.gateway._entries import READ_PROMPT, READ_RESOURCE, READ_TEMPLATE, READ_TOOL
from erlmcp.gateway._lists import Lists
from erlmcp.gateway._names import Naming
from erlmcp.gateway._pins import PIN_KEY, Accepted
from erlmcp.interfaces import (
    Definitions,
    HeaderParameter,
    PromptDefinition,
    ResourceDefinition,
    TemplateDefinition,
    ToolDefinition,
)
from erlmcp.protocol import UriTemplate

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode

_NULL: Final = b"null"
_ANY_OBJECT: Final = Raw(b'{"type":"object"}')
_AT: Final = re.compile(r"`\$\.([A-Za-z_]+)")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
_OPTIONAL: Final = frozenset(
    {"title", "description", "icons", "annotations", "_meta", "mimeType", "size", "outputSchema"}
)
"""Members that an entry can do without: left out where no client could read them."""


class _Unfit(Exception):  # noqa: N818 - ends one entry from inside; never leaves this module
    """Why an entry is left out."""


class _Entry:
    """One entry while it is looked at.

    A client that checks what it reads would drop the whole list for one member of the wrong kind. So what the entry
    can do without is left out of it, and for anything else the entry is left out.

    Args:
        raw: as the upstream lists it.
        read: decodes it as what it should be.

    Attributes:
        said: what it says, as `read` gives it.
    """

    __slots__ = ("_changed", "_parts", "_raw", "said")

    def __init__(self, raw: Raw, read: Callable[[Raw], Any]) -> None:
        self._raw = raw
        self._changed = False
        self._parts: dict[str, Any] | None = None
        self.said = self._read(read)

    def part(self, key: str) -> Raw | None:
        """A member as it came; None if it is not there."""
        return self._apart.get(key)

    def put(self, key: str, value: Any) -> None:
        """Say something else."""
        self._apart[key] = value
        self._changed = True

    def put_new(self, key: str, own: str, value: str) -> None:
        """Say something else, if it is."""
        if value != own:
            self.put(key, value)

    def describe(self, naming: Naming, own: str) -> None:
        """Say what the configuration says instead."""
        said = naming.describe.get(own)
        if said is None:
            return
        if said.title is not None:
            self.put("title", said.title)
            hints = self.part("annotations")
            # For a tool the title among its annotations would win.
            if hints is not None and "title" in (parts := _members(hints)):
                self.put("annotations", Raw(_encode({**parts, "title": said.title})))
        if said.description is not None:
            self.put("description", said.description)

    @property
    def came(self) -> Raw:
        """As the upstream lists it."""
        return self._raw

    @property
    def wire(self) -> Raw:
        """As it is listed here."""
        return Raw(_encode(self._apart)) if self._changed else self._raw

    @property
    def _apart(self) -> dict[str, Any]:
        if self._parts is None:
            self._parts = _members(self._raw)
        return self._parts

    def _read(self, read: Callable[[Raw], Any]) -> Any:
        while True:
            try:
                return read(self.wire)
            except msgspec.ValidationError as error:
                found = _AT.search(str(error))
                part = None if found is None else self._apart.get(found[1])
                if found is None or part is None or (found[1] not in _OPTIONAL and bytes(part) != _NULL):
                    raise _Unfit(_plain(error)) from None
                del self._apart[found[1]]
                self._changed = True
            except (msgspec.DecodeError, RecursionError) as error:
                raise _Unfit(f"it cannot be read: {error}") from None


_Reading = Callable[[Raw, Naming], tuple[str, Any] | None]


class _Offers:
    """What is being gathered."""

    def __init__(self, naming: Naming) -> None:
        self.naming = naming
        self.problems: list[str] = []

    def gather(self, kind: str, entries: tuple[Raw, ...], read: _Reading) -> dict[str, Any]:
        """The definitions of one list, by advertised name; `read` gives None for what is hidden."""
        found: dict[str, Any] = {}
        for place, raw in enumerate(entries, 1):
            try:
                one = read(raw, self.naming)
                if one is None:
                    continue
                if one[0] in found:
                    raise _Unfit("there is another of that name")
                found[one[0]] = one[1]
            except _Unfit as why:
                self.problems.append(f"{_label(kind, raw, place)} is left out: {why}")
        return found


def definitions(
    lists: Lists, naming: Naming, accepted: Accepted | None = None
) -> tuple[Definitions, list[str]]:
    """What an upstream offers, as it is offered here.

    Args:
        lists: what it lists, of either era.
        naming: its names here.
        accepted: how its tools were when somebody accepted them; None if they are not pinned.

    Returns:
        The definitions, and a sentence for each entry that is left out because clients could not use it, or is not
        as it was accepted; what the configuration hides is not among these.
    """
    offers = _Offers(naming)

    def tool(raw: Raw, naming: Naming) -> tuple[str, ToolDefinition] | None:
        return _tool(raw, naming, accepted, offers.problems)

    capabilities = lists.capabilities
    resources = capabilities.get("resources")
    found = Definitions(
        tools=offers.gather("tool", lists.tools, tool),
        prompts=offers.gather("prompt", lists.prompts, _prompt),
        resources=offers.gather("resource", lists.resources, _resource),
        templates=offers.gather("resource template", lists.templates, _template),
        completions="completions" in capabilities,
        logging="logging" in capabilities,
        subscribe=isinstance(resources, dict) and resources.get("subscribe") is True,
        instructions=_instructions(lists.instructions, naming),
        ttl_ms=lists.ttl_ms,
        cache_scope=lists.cache_scope,
    )
    return found, offers.problems


def _tool(
    raw: Raw, naming: Naming, accepted: Accepted | None, problems: list[str]
) -> tuple[str, ToolDefinition] | None:
    entry = _Entry(raw, READ_TOOL)
    said = entry.said
    own = said.name
    name = _name(own, naming.tool(own), naming)
    if name is None:
        return None
    verdict = None if accepted is None else _verdict(entry, own, accepted, problems)
    mirrored = _input(entry)
    entry.describe(naming, own)
    entry.put_new("name", own, name)
    _mark(entry, naming, verdict)
    hints = said.annotations
    return name, ToolDefinition(
        name=name,
        wire=entry.wire,
        header_parameters=mirrored,
        read_only=hints is not UNSET and hints.read_only_hint is True,
        idempotent=hints is not UNSET and hints.idempotent_hint is True,
    )


def _verdict(entry: _Entry, own: str, accepted: Accepted, problems: list[str]) -> str | None:
    """How a tool differs from what was accepted, if it is shown nevertheless."""
    try:
        verdict = accepted.verdict(own, entry.came)
    except ValueError as error:
        raise _Unfit(str(error)) from None
    if verdict is not None:
        why = "has changed since it was accepted" if verdict == "changed" else "has never been accepted"
        if accepted.changed == "hide":
            raise _Unfit(f"it {why}; `erlmcp pin --accept` accepts it")
        problems.append(f"the tool {_shown(own)} {why}; `erlmcp pin --accept` accepts it")
    return verdict


def _prompt(raw: Raw, naming: Naming) -> tuple[str, PromptDefinition] | None:
    entry = _Entry(raw, READ_PROMPT)
    own = entry.said.name
    name = _name(own, naming.prompt(own), naming)
    if name is None:
        return None
    arguments = entry.said.arguments
    entry.describe(naming, own)
    entry.put_new("name", own, name)
    return name, PromptDefinition(
        name=name, wire=entry.wire, arguments={one.name: one.required for one in arguments}
    )


def _resource(raw: Raw, naming: Naming) -> tuple[str, ResourceDefinition] | None:
    entry = _Entry(raw, READ_RESOURCE)
    own = entry.said.uri
    if not naming.shows_uri(own):
        return None
    uri = naming.uri(own)
    _ensure_name(entry, own)
    entry.describe(naming, own)
    entry.put_new("uri", own, uri)
    return uri, ResourceDefinition(uri=uri, wire=entry.wire)


def _template(raw: Raw, naming: Naming) -> tuple[str, TemplateDefinition] | None:
    entry = _Entry(raw, READ_TEMPLATE)
    own = entry.said.uri_template
    if not naming.shows_template(own):
        return None
    advertised = naming.template(own)
    try:
        template = UriTemplate(advertised)
    except ValueError as error:
        raise _Unfit(f"its uriTemplate is none: {error}") from None
    _ensure_name(entry, own)
    entry.describe(naming, own)
    entry.put_new("uriTemplate", own, advertised)
    match = _matching(template, naming)
    return advertised, TemplateDefinition(uri_template=advertised, wire=entry.wire, match=match)


def _matching(template: UriTemplate, naming: Naming) -> Callable[[str], Mapping[str, Any] | None]:
    """Which URIs are a template's. Where that cannot be told, all that begin as it does: the upstream knows."""
    head = template.template.partition("{")[0]
    matches = template.match if template.unmatchable is None else None

    def match(uri: str) -> Mapping[str, Any] | None:
        if matches is None:
            found: Mapping[str, Any] | None = {} if ":" in head and uri.startswith(head) else None
        else:
            found = matches(uri)
        return None if found is None or naming.own_uri(uri) is None else found

    return match


def _name(own: str, advertised: str | None, naming: Naming) -> str | None:
    if advertised is None and (other := naming.taken(own)) is not None:
        raise _Unfit(
            f"{_shown(other)} is renamed to what it would be called here; rename one of them otherwise"
        )
    return advertised


def _ensure_name(entry: _Entry, uri: str) -> None:
    """Every revision demands a name for display; an upstream that gives none must not cost the resource."""
    if entry.said.name is UNSET:
        entry.put("name", uri)


def _input(entry: _Entry) -> tuple[HeaderParameter, ...]:
    """See to it that the input schema is one of an object; gives what of it is mirrored into headers."""
    schema = entry.said.input_schema
    if schema is UNSET:
        entry.put("inputSchema", _ANY_OBJECT)
        return ()
    kind = schema.get("type")
    if kind is None:
        entry.put("inputSchema", Raw(_encode({"type": "object", **schema})))
    elif bytes(kind) != b'"object"' and _value(kind) != "object":
        raise _Unfit(
            f'its inputSchema is of type {_shown(bytes(kind).decode())}, and must be of type "object"'
        )
    # A name may be written with escapes.
    inside = any(b"x-mcp-header" in bytes(part) or b"\\u" in bytes(part) for part in schema.values())
    if not inside and "x-mcp-header" not in schema:
        return ()
    try:
        return header_parameters({key: _decode(part) for key, part in schema.items()})
    except (InvalidSchema, msgspec.DecodeError, RecursionError) as error:
        raise _Unfit(str(error)) from None


def _mark(entry: _Entry, naming: Naming, verdict: str | None) -> None:
    """What of a tool's `_meta` is ours: the resource that shows it (MCP Apps), and whether it was accepted."""
    meta = entry.said.meta
    before: dict[str, Any] = {} if meta is UNSET else meta
    after = dict(before)
    if naming.changes_uris:
        flat = _value(before.get("ui/resourceUri"))
        if isinstance(flat, str):
            after["ui/resourceUri"] = naming.uri(flat)
        shown = _value(before.get("ui"))
        if isinstance(shown, dict) and isinstance(shown.get("resourceUri"), str):
            after["ui"] = {**shown, "resourceUri": naming.uri(shown["resourceUri"])}
    if verdict is not None:
        after[PIN_KEY] = verdict
    if after != before:
        entry.put("_meta", Raw(_encode(after)))


def _value(raw: Raw | None) -> Any:
    try:
        return None if raw is None else _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _instructions(text: str, naming: Naming) -> str:
    """The upstream knows only its own names, so a model must be told how they begin here."""
    if not text or not naming.prefix:
        return text
    return f'Of {naming.upstream}, whose tools and prompts have "{naming.prefix}" in front of their names here:\n{text}'


def _label(kind: str, raw: Raw, place: int) -> str:
    """What a sentence calls an entry that may be anything."""
    try:
        found = _members(raw)
    except (msgspec.DecodeError, RecursionError):
        found = {}
    for key in ("uri", "uriTemplate", "name"):
        name = _value(found.get(key))
        if isinstance(name, str) and name:
            return f"the {kind} {_shown(name)}"
    return f"the {kind} in place {place}"


def _plain(error: msgspec.ValidationError) -> str:
    text = str(error).replace("`$.", "`").replace("`", "")
    return _UNPRINTABLE.sub("?", text[:1].lower() + text[1:])[:300]


def _shown(name: str) -> str:
    return repr(_UNPRINTABLE.sub("?", name[:100]))
