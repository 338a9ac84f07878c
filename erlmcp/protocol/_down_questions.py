"""Questions of 2026-07-28 as requests to a client of a handshake revision, where it can be asked them at all."""

import os
from collections.abc import Mapping
from typing import Any, Final

from erlmcp.protocol._cuts import CUTS
from erlmcp.protocol._revisions import Revision
from erlmcp.protocol._shapes import Cut, Object, items_of, members_of, text_of

_FIELD_KINDS: Final = {
    "string": "StringSchema",
    "number": "NumberSchema",
    "integer": "NumberSchema",
    "boolean": "BooleanSchema",
}


def down_question(question: Mapping[str, Any], revision: Revision) -> Object | None:
    """A question as a handshake revision has it.

    The client's answer is one to the original question: `check_answer` takes that one.

    Args:
        question: a request object, as `Question` builds them.
        revision: the client's.

    Returns:
        The request object, without the id that it will have; None if nothing in the revision says the same: any
        elicitation before 2025-06-18; a URL, sampling that may use tools, or a form field that takes several choices
        before 2025-11-25. Whether the client declared the capability is `ClientCapabilities.missing_for`'s affair.
    """
    method = question["method"]
    params = members_of(question.get("params", {})) or {}
    if method == "elicitation/create":
        asked = _elicitation(params, revision)
    elif method == "sampling/createMessage":
        asked = _sampling(params, revision)
    else:
        return {"method": method} if method == "roots/list" else None
    return None if asked is None else {"method": method, "params": asked}


def _elicitation(params: Object, revision: Revision) -> Object | None:
    cuts = CUTS[revision.rank]
    if text_of(params.get("mode")) == "url":
        if not revision.url_elicitation:
            return None
        # No later message refers to it: whether the visit was of use, the next request will tell.
        return {"elicitationId": os.urandom(16).hex(), **cuts["elicitation/create url"](params)}
    if not revision.elicitation:
        return None
    asked: Object = cuts["elicitation/create form"](params)
    return asked if revision.url_elicitation else _older_form(asked, cuts)


def _older_form(asked: Object, cuts: Mapping[str, Cut]) -> Object | None:
    """A form of 2025-06-18: no default but a boolean's, titles of choices in a list of their own, one choice each."""
    schema = members_of(asked.get("requestedSchema")) or {}
    properties: Object = {}
    for name, field in (members_of(schema.get("properties")) or {}).items():
        reduced = _older_field(members_of(field) or {}, cuts)
        if reduced is None:
            return None
        properties[name] = reduced
    return {**asked, "requestedSchema": {**schema, "properties": properties}}


def _older_field(field: Object, cuts: Mapping[str, Cut]) -> Object | None:
    kind = _FIELD_KINDS.get(text_of(field.get("type")))
    if kind is None:
        return None
    if kind == "StringSchema" and "oneOf" in field:
        choices = [members_of(choice) or {} for choice in items_of(field["oneOf"]) or []]
        if not all("const" in choice and "title" in choice for choice in choices):
            return None
        field = {
            **field,
            "enum": [choice["const"] for choice in choices],
            "enumNames": [choice["title"] for choice in choices],
        }
    if "enum" in field:
        kind = "LegacyTitledEnumSchema"
    reduced: Object = cuts[kind](field)
    return reduced


def _sampling(params: Object, revision: Revision) -> Object | None:
    if not revision.sampling_tools:
        choice = members_of(params.get("toolChoice")) or {}
        if items_of(params.get("tools")) and text_of(choice.get("mode")) != "none":
            return None
        params = {**params, "messages": _single_blocks(params.get("messages"))}
    asked: Object = CUTS[revision.rank]["sampling/createMessage"](params)
    return asked


def _single_blocks(messages: Any) -> list[Any]:
    """The messages with one block each, as they have it before 2025-11-25."""
    single: list[Any] = []
    for message in items_of(messages) or []:
        members = members_of(message) or {}
        blocks = items_of(members.get("content"))
        if blocks is None:
            single.append(message)
        else:
            single += [{**members, "content": block} for block in blocks]
    return single
