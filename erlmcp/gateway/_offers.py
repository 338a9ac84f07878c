"""What an upstream lists, as definitions under the names that it has here. Pure.

Entries that need not change keep their bytes; what clients of 2026-07-28 could not read is mended or left out.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from erlmcp.catalog import InvalidSchema, header_parameters
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
_MOST_OF_A_NAME: Final = 1024
"""Characters of a name, and of a URI or template four times as many; an entry with more is left out."""


class _Unfit(Exception):  # noqa: N818 - ends one entry from inside; never leaves this module
    """Why an entry is left out."""


class _Entry:
    """One entry while it is looked at.

    Args:
        raw: as the upstream lists it.

    Attributes:
        members: its members; without those that are null, which no schema allows.
        changed: whether they are not as they came.
    """

    __slots__ = ("changed", "members", "raw")

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        try:
            members = _members(raw)
        except msgspec.DecodeError:
            raise _Unfit("it is no object") from None
        self.members = {key: part for key, part in members.items() if bytes(part) != _NULL}
        self.changed = len(self.members) != len(members)

    def text(self, key: str, most: int = _MOST_OF_A_NAME) -> str:
        """A string that must be there."""
        found = self.read(key)
        if not isinstance(found, str) or not found:
            raise _Unfit(f"its {key} is {'missing' if found is None else 'no text'}")
        if len(found) > most:
            raise _Unfit(f"its {key} is longer than {most} characters")
        return found

    def read(self, key: str) -> Any:
        """A member, decoded; None if it is not there."""
        part = self.members.get(key)
        try:
            return None if part is None else _decode(part)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _Unfit(f"its {key} cannot be read: {error}") from None

    def put(self, key: str, value: Any) -> None:
        """Say something else."""
        self.members[key] = value
        self.changed = True

    def drop(self, key: str) -> None:
        """Say nothing of it."""
        del self.members[key]
        self.changed = True

    def describe(self, naming: Naming, own: str) -> None:
        """Say what the configuration says instead."""
        said = naming.describe.get(own)
        if said is None:
            return
        if said.title is not None:
            self.put("title", said.title)
            annotations = self.read("annotations")
            # For tools a title among the annotations would win.
            if isinstance(annotations, dict) and "title" in annotations:
                self.put("annotations", {**annotations, "title": said.title})
        if said.description is not None:
            self.put("description", said.description)

    @property
    def wire(self) -> Raw:
        """As it is listed here."""
        return Raw(_encode(self.members)) if self.changed else self.raw


_Reading = Callable[[_Entry, Naming], tuple[str, Any] | None]


class _Offers:
    """What is being gathered."""

    def __init__(self, naming: Naming) -> None:
        self.naming = naming
        self.problems: list[str] = []

    def gather(self, kind: str, entries: tuple[Raw, ...], read: _Reading) -> dict[str, Any]:
        """The definitions of one list, by advertised name; `read` gives None for what is hidden."""
        found: dict[str, Any] = {}
        for place, raw in enumerate(entries, 1):
            label = f"the {kind} in place {place}"
            try:
                entry = _Entry(raw)
                label = _label(kind, entry, label)
                one = read(entry, self.naming)
                if one is None:
                    continue
                if one[0] in found:
                    raise _Unfit("there is another of that name")
                found[one[0]] = one[1]
            except _Unfit as why:
                self.problems.append(f"{label} is left out: {why}")
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

    def tool(entry: _Entry, naming: Naming) -> tuple[str, ToolDefinition] | None:
        return _tool(entry, naming, accepted, offers.problems)

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
    entry: _Entry, naming: Naming, accepted: Accepted | None, problems: list[str]
) -> tuple[str, ToolDefinition] | None:
    own = entry.text("name")
    name = _name(own, naming.tool(own), naming)
    if name is None:
        return None
    verdict = None if accepted is None else _verdict(entry, own, accepted, problems)
    mirrored = _input(entry)
    output = entry.members.get("outputSchema")
    if output is not None and not bytes(output).startswith(b"{"):
        entry.drop("outputSchema")
    annotations = entry.read("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        entry.drop("annotations")
        annotations = None
    hints = annotations or {}
    entry.describe(naming, own)
    _rename(entry, own, name)
    _app(entry, naming)
    if verdict is not None:
        meta = entry.read("_meta")
        entry.put("_meta", {**(meta if isinstance(meta, dict) else {}), PIN_KEY: verdict})
    return name, ToolDefinition(
        name=name,
        wire=entry.wire,
        header_parameters=mirrored,
        read_only=hints.get("readOnlyHint") is True,
        idempotent=hints.get("idempotentHint") is True,
    )


def _verdict(entry: _Entry, own: str, accepted: Accepted, problems: list[str]) -> str | None:
    """How a tool differs from what was accepted, if it is shown nevertheless."""
    try:
        verdict = accepted.verdict(own, entry.raw)
    except ValueError as error:
        raise _Unfit(str(error)) from None
    if verdict is not None:
        why = "has changed since it was accepted" if verdict == "changed" else "has never been accepted"
        if accepted.changed == "hide":
            raise _Unfit(f"it {why}; `erlmcp pin --accept` accepts it")
        problems.append(f"the tool {_shown(own)} {why}; `erlmcp pin --accept` accepts it")
    return verdict


def _prompt(entry: _Entry, naming: Naming) -> tuple[str, PromptDefinition] | None:
    own = entry.text("name")
    name = _name(own, naming.prompt(own), naming)
    if name is None:
        return None
    arguments: dict[str, bool] = {}
    for argument in _arguments(entry):
        if not isinstance(argument, dict) or not isinstance(argument.get("name"), str):
            raise _Unfit("an argument of it has no name")
        arguments[argument["name"]] = argument.get("required") is True
    entry.describe(naming, own)
    _rename(entry, own, name)
    return name, PromptDefinition(name=name, wire=entry.wire, arguments=arguments)


def _resource(entry: _Entry, naming: Naming) -> tuple[str, ResourceDefinition] | None:
    own = entry.text("uri", 4 * _MOST_OF_A_NAME)
    if not naming.shows_uri(own):
        return None
    uri = naming.uri(own)
    _ensure_name(entry, own)
    entry.describe(naming, own)
    if uri != own:
        entry.put("uri", uri)
    return uri, ResourceDefinition(uri=uri, wire=entry.wire)


def _template(entry: _Entry, naming: Naming) -> tuple[str, TemplateDefinition] | None:
    own = entry.text("uriTemplate", 4 * _MOST_OF_A_NAME)
    if not naming.shows_template(own):
        return None
    advertised = naming.template(own)
    try:
        template = UriTemplate(advertised)
    except ValueError as error:
        raise _Unfit(f"its uriTemplate is none: {error}") from None
    _ensure_name(entry, own)
    entry.describe(naming, own)
    if advertised != own:
        entry.put("uriTemplate", advertised)
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


def _rename(entry: _Entry, own: str, name: str) -> None:
    if name != own:
        entry.put("name", name)


def _ensure_name(entry: _Entry, uri: str) -> None:
    """Every revision demands a name for display; an upstream that gives none must not cost the resource."""
    if not isinstance(entry.read("name"), str):
        entry.put("name", uri)


def _arguments(entry: _Entry) -> list[Any]:
    arguments = entry.read("arguments")
    if arguments is None:
        return []
    if not isinstance(arguments, list):
        raise _Unfit("its arguments are no list")
    return arguments


def _input(entry: _Entry) -> tuple[HeaderParameter, ...]:
    """See to it that the input schema is one of an object; gives what of it is mirrored into headers."""
    raw = entry.members.get("inputSchema")
    if raw is None:
        entry.put("inputSchema", _ANY_OBJECT)
        return ()
    try:
        members = _members(raw)
    except msgspec.DecodeError:
        raise _Unfit("its inputSchema is no object") from None
    kind = members.get("type")
    if kind is None:
        entry.put("inputSchema", Raw(_encode({"type": "object", **members})))
    elif bytes(kind) != b'"object"' and _decode(kind) != "object":
        raise _Unfit(f'its inputSchema is of type {bytes(kind).decode()[:40]}, which must be "object"')
    text = bytes(raw)
    if b"x-mcp-header" not in text and b"\\u" not in text:
        return ()
    try:
        return header_parameters(entry.read("inputSchema"))
    except (InvalidSchema, RecursionError) as error:
        raise _Unfit(str(error)) from None


def _app(entry: _Entry, naming: Naming) -> None:
    """MCP Apps: the resource that shows a tool is named in its `_meta`, and is ours like any other."""
    raw = entry.members.get("_meta")
    if raw is None or not naming.changes_uris or b"resourceUri" not in bytes(raw):
        return
    try:
        members: dict[str, Any] = _members(raw)
    except msgspec.DecodeError:
        return
    before = dict(members)
    flat = _value(members.get("ui/resourceUri"))
    if isinstance(flat, str):
        members["ui/resourceUri"] = naming.uri(flat)
    shown = _value(members.get("ui"))
    if isinstance(shown, dict) and isinstance(shown.get("resourceUri"), str):
        members["ui"] = {**shown, "resourceUri": naming.uri(shown["resourceUri"])}
    if members != before:
        entry.put("_meta", Raw(_encode(members)))


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


def _label(kind: str, entry: _Entry, otherwise: str) -> str:
    for key in ("uri", "uriTemplate", "name"):
        try:
            found = entry.read(key)
        except _Unfit:
            continue
        if isinstance(found, str):
            return f"the {kind} {_shown(found)}"
    return otherwise


_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def _shown(name: str) -> str:
    return repr(_UNPRINTABLE.sub("?", name[:100]))
