"""The names that an upstream's tools, prompts and resources get here: a pure function of configuration and name.

Nothing is remembered, so a restart, another worker and a client that comes back after a month all see the same names.
``docs/reference/gateway-names.md`` has the rules as operators read them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from typing import Any, Final, Literal
from urllib.parse import unquote

from msgspec import Struct

Mode = Literal["prefix", "none", "map"]

MAX_NAME: Final = 32
"""Characters of an upstream's name."""

_UPSTREAM: Final = re.compile(rf"[a-z][a-z0-9-]{{0,{MAX_NAME - 1}}}")
_SEPARATOR: Final = re.compile(r"[._-]{1,4}")
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UP: Final = re.compile(r"(?:\A|[:/\\])\.\.?(?:[/\\?#]|\Z)")
_APPS: Final = "ui://"
"""MCP Apps: hosts go by this scheme, so it stays in front."""
_ALL: Final = ("*",)
_KINDS: Final = ("tools", "prompts", "resources")
_REMEMBERED: Final = 4096
_LONGEST: Final = 256

Globs = Sequence[str] | Mapping[str, Sequence[str]]
"""Globs on own names: for everything, or by kind (``tools``, ``prompts``, ``resources``); a kind not there is ``*``."""


class Override(Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a tool, a prompt or a resource instead of what its upstream says; None leaves that."""

    title: str | None = None
    description: str | None = None


class Naming:
    """How one upstream's names become ours, and back. Immutable.

    For whatever is not hidden, ``own_tool(tool(x)) == x``, ``own_prompt(prompt(x)) == x`` and
    ``own_uri(uri(x)) == x``; no two own names share an advertised one.

    Args:
        upstream: its name: a lower-case letter, then lower-case letters, digits and ``-``.
        mode: ``prefix``: the upstream's name and the separator in front; ``none``: as they are; ``map``: only the
            tools and prompts that `names` has.
        separator: of the prefix: one to four of ``.``, ``_``, ``-``.
        names: own name -> advertised name, of tools and prompts; in ``prefix`` and ``none`` for single ones.
        allow: which own names and URIs are shown at all.
        deny: which of these are not.
        describe: own name, URI or template -> what is said of it instead.

    Raises:
        ValueError: one of these cannot be; the message begins with the configuration key.
    """

    __slots__ = (
        "_back",
        "_guards_paths",
        "_shows",
        "_tools",
        "describe",
        "mode",
        "names",
        "prefix",
        "separator",
        "upstream",
        "uri_prefix",
    )

    def __init__(
        self,
        upstream: str,
        mode: Mode = "prefix",
        *,
        separator: str = ".",
        names: Mapping[str, str] | None = None,
        allow: Globs = _ALL,
        deny: Globs = (),
        describe: Mapping[str, Override | Mapping[str, str]] | None = None,
    ) -> None:
        _check(upstream, mode, separator)
        self.upstream = upstream
        self.mode = mode
        self.separator = separator
        self.prefix = upstream + separator if mode == "prefix" else ""
        self.uri_prefix = "" if mode == "none" else upstream
        self.names: Mapping[str, str] = dict(names or {})
        self._back = _reversed(self.names, "names" if mode == "map" else "rename")
        self.describe: Mapping[str, Override] = {
            own: _override(own, said) for own, said in (describe or {}).items()
        }
        allowed, denied = _by_kind("allow", allow, _ALL), _by_kind("deny", deny, ())
        self._shows = {kind: _shows(allowed[kind], denied[kind]) for kind in _KINDS}
        self._tools: dict[str, str] = {}  # advertised -> own, of those that were asked for last
        self._guards_paths = tuple(allowed["resources"]) != _ALL or bool(denied["resources"])

    @property
    def changes_uris(self) -> bool:
        """Whether a URI is another one here; if not, results pass as they are."""
        return bool(self.uri_prefix)

    # tools and prompts

    def tool(self, own: str) -> str | None:
        """What a tool is called here; None if it is hidden."""
        return self._advertised(own) if self._shows["tools"](own) else None

    def own_tool(self, advertised: str) -> str | None:
        """What its upstream calls a tool; None if nothing of the upstream is called so here."""
        own = self._tools.get(advertised)
        if own is None:
            own = self._own(advertised)
            if own is None or not self._shows["tools"](own):
                return None
            if len(advertised) <= _LONGEST:
                # Whatever clients call by a name that may be one of ours comes by here, also if there is no such tool.
                if len(self._tools) >= _REMEMBERED:
                    self._tools.clear()
                self._tools[advertised] = own
        return own

    def prompt(self, own: str) -> str | None:
        """What a prompt is called here; None if it is hidden."""
        return self._advertised(own) if self._shows["prompts"](own) else None

    def own_prompt(self, advertised: str) -> str | None:
        """What its upstream calls a prompt; None if nothing of the upstream is called so here."""
        own = self._own(advertised)
        return own if own is not None and self._shows["prompts"](own) else None

    def taken(self, own: str) -> str | None:
        """Which other own name is renamed to what this one would be called; it is hidden then. None if none is."""
        if own in self.names or self.mode == "map":
            return None
        return self._back.get(self.prefix + own)

    def _advertised(self, own: str) -> str | None:
        named = self.names.get(own)
        if named is not None:
            return named
        if self.mode == "map":
            return None
        plain = self.prefix + own
        return None if plain in self._back else plain

    def _own(self, advertised: str) -> str | None:
        own = self._back.get(advertised)
        if own is not None:
            return own
        if self.mode == "map" or not advertised.startswith(self.prefix):
            return None
        own = advertised[len(self.prefix) :]
        return None if own in self.names else own

    # resources

    def uri(self, own: str) -> str:
        """A URI of the upstream's as it is here, whether or not it is hidden."""
        upstream = self.uri_prefix
        if not upstream:
            return own
        if own.startswith(_APPS):
            return f"{_APPS}{upstream}/{own[len(_APPS) :]}"
        # What has no scheme, or a template's variable for it, gets the upstream's name alone.
        return f"{upstream}+{own}" if _SCHEME.match(own) else f"{upstream}:{own}"

    def own_uri(self, advertised: str) -> str | None:
        """The upstream's own URI; None if it is none of the upstream's, or hidden."""
        own = self._plain_uri(advertised)
        return own if own is not None and self.shows_uri(own) else None

    def template(self, own: str) -> str:
        """A URI template of the upstream's as it is here."""
        return self.uri(own)

    def own_template(self, advertised: str) -> str | None:
        """The upstream's own template; None if it is none of the upstream's, or hidden."""
        own = self._plain_uri(advertised)
        return own if own is not None and self._shows["resources"](own) else None

    def shows_template(self, own: str) -> bool:
        """Whether a template is shown. What it expands to must be so, too: see `shows_uri`."""
        return self._shows["resources"](own)

    def shows_uri(self, own: str) -> bool:
        """Whether a resource may be known of.

        Where globs say which, other spellings of the same URI must not get past them: it is looked at decoded, too,
        its scheme in lower case, and a path with a segment ``.`` or ``..`` is never shown.
        """
        if not self._guards_paths:
            return True
        scheme, colon, rest = own.partition(":")
        plain = scheme.lower() + colon + unquote(rest)
        shows = self._shows["resources"]
        return _UP.search(plain) is None and shows(own) and shows(plain)

    def _plain_uri(self, advertised: str) -> str | None:
        upstream = self.uri_prefix
        if not upstream:
            return advertised
        if advertised.startswith(apps := f"{_APPS}{upstream}/"):
            return _APPS + advertised[len(apps) :]
        if not advertised.startswith(upstream):
            return None
        sign, own = advertised[len(upstream) : len(upstream) + 1], advertised[len(upstream) + 1 :]
        if sign == "+":
            return own if _SCHEME.match(own) and not own.startswith(_APPS) else None
        return own if sign == ":" else None


def naming_problems(namings: Sequence[Naming]) -> list[str]:
    """What in the configuration of several upstreams makes, or may make, two names one.

    Args:
        namings: of all upstreams of one catalog, in configuration order.

    Returns:
        A sentence for each, which names both upstreams; empty if no collision can come of the configuration alone.
        What depends on what the upstreams list, `Catalog` finds when it hears of it.
    """
    problems = []
    for place, naming in enumerate(namings):
        for other in namings[:place]:
            if other.upstream == naming.upstream:
                problems.append(
                    f"two upstreams are called {naming.upstream!r}; give one of them another name"
                )
                continue
            problems += _between(other, naming)
    return problems


def _between(first: Naming, second: Naming) -> list[str]:
    pair = f"{first.upstream!r} and {second.upstream!r}"
    problems = [
        f"{pair}: both have a name that is advertised as {name!r}; change one of them"
        for name in sorted(first._back.keys() & second._back.keys())  # noqa: SLF001 - of this module
    ]
    a, b = first.prefix, second.prefix
    if a and b and (a.startswith(b) or b.startswith(a)):
        problems.append(
            f"{pair}: what begins with {max(a, b, key=len)!r} may be of either; change a separator"
        )
    for here, there in ((first, second), (second, first)):
        problems += [
            f"{here.upstream!r} renames {own!r} to {name!r}, which begins as the names of {there.upstream!r} do;"
            " choose another"
            for own, name in here.names.items()
            if there.prefix and name.startswith(there.prefix)
        ]
    return problems


def _check(upstream: str, mode: str, separator: str) -> None:
    if _UPSTREAM.fullmatch(upstream) is None:
        raise ValueError(
            f"name: {upstream!r} names no upstream: it takes a lower-case letter, then lower-case letters, digits"
            f" and '-', {MAX_NAME} at most, since URIs begin with it"
        )
    if upstream == "ui":
        raise ValueError("name: 'ui' is the scheme of MCP Apps; choose another name")
    if mode not in ("prefix", "none", "map"):
        raise ValueError(f"names: {mode!r} is none of prefix, none and a table of names")
    if _SEPARATOR.fullmatch(separator) is None:
        raise ValueError(f"separator: {separator!r} is not one to four of '.', '_' and '-'")


def _reversed(names: Mapping[str, str], key: str) -> dict[str, str]:
    back: dict[str, str] = {}
    for own, advertised in names.items():
        if not own:
            raise ValueError(f"{key}: a name is empty")
        if _TOOL_NAME.fullmatch(advertised) is None:
            raise ValueError(
                f"{key}.{own}: {advertised!r} is no name: use 1 to 128 of A-Z, a-z, 0-9, '_', '-' and '.'"
            )
        if advertised in back:
            raise ValueError(f"{key}: {back[advertised]!r} and {own!r} are both called {advertised!r}")
        back[advertised] = own
    return back


def _override(own: str, said: Override | Mapping[str, Any]) -> Override:
    if isinstance(said, Override):
        return said
    for key, value in said.items():
        if key not in ("title", "description"):
            raise ValueError(f"describe.{own}: {key!r} is unknown; title and description can be said")
        if not isinstance(value, str):
            raise ValueError(f"describe.{own}.{key}: {value!r} is no text")  # noqa: TRY004 - a configuration's
    return Override(**said)


def _by_kind(key: str, globs: Globs, default: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if isinstance(globs, str):
        raise ValueError(f"{key}: {globs!r} is one glob; write a list of them")  # noqa: TRY004 - a configuration's
    if not isinstance(globs, Mapping):
        return dict.fromkeys(_KINDS, tuple(globs))
    unknown = sorted(set(globs) - set(_KINDS))
    if unknown:
        raise ValueError(f"{key}: {unknown[0]!r} is none of tools, prompts and resources")
    return {kind: tuple(globs.get(kind, default)) for kind in _KINDS}


def _shows(allow: tuple[str, ...], deny: tuple[str, ...]) -> Callable[[str], bool]:
    allowed, denied = _any(allow), _any(deny)
    if denied is None:
        if "*" in allow:
            return lambda _: True
        return lambda name: allowed is not None and allowed(name) is not None
    return lambda name: (
        denied(name) is None and ("*" in allow or (allowed is not None and allowed(name) is not None))
    )


def _any(globs: tuple[str, ...]) -> Callable[[str], Any] | None:
    return re.compile("|".join(map(translate, globs))).match if globs else None
