"""The parts that all definitions share: names, icons, annotations; checked when they are given."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ICON_KEYS = {"src": str, "mimeType": str, "sizes": list, "theme": str}
_HINTS = {
    "title": str,
    "readOnlyHint": bool,
    "destructiveHint": bool,
    "idempotentHint": bool,
    "openWorldHint": bool,
}
_AUDIENCES = ("user", "assistant")


def check_tool_name(name: str) -> str:
    """The name, if it is one (revision 2026-07-28, server/tools, Tool Names; its SHOULD is a must here).

    Raises:
        ValueError: it is not.
    """
    if _TOOL_NAME.fullmatch(name) is None:
        raise ValueError(f"tool name {name!r}: use 1 to 128 of A-Z, a-z, 0-9, '_', '-' and '.'")
    return name


def check_uri(uri: str) -> str:
    """The URI, if it has a scheme.

    Raises:
        ValueError: it has none.
    """
    if _SCHEME.match(uri) is None:
        raise ValueError(f"resource {uri!r}: a URI begins with a scheme, such as 'config://settings'")
    return uri


def icon_list(icons: Sequence[Any], where: str) -> list[dict[str, Any]]:
    """Icons as the wire has them; each is a URL or an ``Icon`` object.

    Raises:
        ValueError: one of them is neither.
    """
    found = []
    for icon in icons:
        body = {"src": icon} if isinstance(icon, str) else dict(icon)
        for key, value in body.items():
            if key not in _ICON_KEYS or not isinstance(value, _ICON_KEYS[key]):
                raise ValueError(
                    f"{where}: an icon has src, mimeType, sizes (a list) and theme; not {key}={value!r}"
                )
        if "src" not in body:
            raise ValueError(f"{where}: an icon needs src, an https: or data: URL")
        found.append(body)
    return found


def check_hints(annotations: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """A tool's annotations (revision 2026-07-28, schema ``ToolAnnotations``).

    Raises:
        ValueError: an unknown key, or a value of the wrong kind.
    """
    for key, value in (annotations or {}).items():
        if key not in _HINTS:
            raise ValueError(f"{where}: unknown annotation {key!r}; there are {', '.join(_HINTS)}")
        if not isinstance(value, _HINTS[key]):
            expected = _HINTS[key].__name__
            raise ValueError(  # noqa: TRY004 - part of a value
                f"{where}: annotation {key} is a {expected}, not {value!r}"
            )
    return dict(annotations or {})


def check_annotations(annotations: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """Annotations of content and resources (revision 2026-07-28, server/resources, Annotations).

    Raises:
        ValueError: an unknown key, or a value out of its range.
    """
    for key, value in (annotations or {}).items():
        if key == "audience":
            good = isinstance(value, list | tuple) and all(one in _AUDIENCES for one in value)
        elif key == "priority":
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        elif key == "lastModified":
            good = isinstance(value, str)
        else:
            raise ValueError(
                f"{where}: unknown annotation {key!r}; there are audience, priority, lastModified"
            )
        if not good:
            raise ValueError(
                f"{where}: annotation {key}={value!r}: audience is a list of 'user' and 'assistant',"
                " priority lies between 0 and 1, lastModified is an ISO 8601 text"
            )
    return dict(annotations or {})


def without_none(**fields: Any) -> dict[str, Any]:
    """The fields that say something: None and what is empty are left out."""
    return {key: value for key, value in fields.items() if value is not None and value not in ("", [], {})}
