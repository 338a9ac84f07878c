"""The configuration of an MCP host (``mcpServers``) as ``[[upstream]]`` tables. Pure: JSON text in, TOML text out."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHOLE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")
_ASKED: Final = re.compile(r"\$\{input:([^}]*)\}")
_PLACEHOLDER: Final = re.compile(r"\$\{[^}]*\}")
_SECRET_NAME: Final = re.compile(
    r"key|token|secret|passw|pwd|auth|credential|cookie|session|private|(?:\A|_)(?:pat|pass|dsn)(?:_|\Z)",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(
    r"(?:Bearer|Basic)\s+\S|gh[pousr]_|github_pat_|glpat-|sk-|xox[a-z]-|AKIA|AIza|eyJ[A-Za-z0-9_-]+\.|-----BEGIN"
    r"|[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@"
    r"|(?=[^/\\:]*\d)(?=[^/\\:]*[A-Za-z])[A-Za-z0-9+=_-]{24,}\Z"
)
_FLAG: Final = re.compile(r"--?[A-Za-z][A-Za-z0-9_-]*")
_LOCAL: Final = frozenset({"stdio", "local"})
_REMOTE: Final = frozenset({"http", "streamable-http", "streamablehttp", "streamable_http", "sse", "remote"})
_URL_KEYS: Final = ("url", "serverUrl", "httpUrl")
_KNOWN: Final = frozenset(
    {"type", "transport", "command", "args", "env", "cwd", "headers", "disabled", *_URL_KEYS}
)
_MOST: Final = 1000


class Imported(Struct, frozen=True):
    """What an import came to.

    Attributes:
        text: the TOML; empty if there are problems.
        notes: what the operator must know or do, a sentence each; never a secret itself.
        problems: what is wrong with the file, with the place of each.
    """

    text: str
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class _Variable(Struct, frozen=True):
    """A secret: the environment variable that it is to be in."""

    name: str


class _Import:
    """One import under way."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.problems: list[str] = []
        self._names: set[str] = set()
        self._variables: dict[str, str] = {}

    def problem(self, where: str, wrong: str) -> None:
        self.problems.append(f"{where}: {wrong}")

    def name(self, given: str, where: str) -> str:
        """A name for an upstream: what was given as far as it can begin a URI, and unlike all others."""
        plain = re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")
        if not plain or not plain[0].isalpha() or plain == "ui":
            plain = f"server-{plain}".rstrip("-")
        found, count = plain[:32].rstrip("-"), 1
        while found in self._names:
            count += 1
            found = f"{plain[: 31 - len(str(count))]}-{count}"
        self._names.add(found)
        if found != given:
            self.notes.append(f"{where}: it is called {found!r} here; its tools are {found}.NAME")
        return found

    def variable(self, wanted: str, upstream: str, value: str) -> str:
        """The environment variable for a secret: one for each value."""
        own = f"{upstream}_{wanted}".upper().replace("-", "_")
        found, count = wanted, 1
        while self._variables.setdefault(found, value) != value:
            found, count = (own if count == 1 else f"{own}_{count}"), count + 1
        return found


def read_host(text: str) -> Imported:
    """Translate a host's configuration.

    Args:
        text: JSON with ``mcpServers`` (or ``servers``, as one editor has it): name -> ``command``, ``args``, ``env``,
            ``cwd``, or ``url``, ``headers``; ``type``.
    """
    work = _Import()
    servers, key = _servers(text, work)
    tables: list[list[tuple[str, Any]]] = []
    if len(servers) > _MOST:
        work.problem(key, f"it has {len(servers)} servers, more than {_MOST}")
        servers = {}
    for given, server in servers.items():
        where = f"{key}.{given}"
        if not isinstance(server, dict):
            work.problem(where, "is no object; it must have a command or a url")
        elif server.get("disabled") is True:
            work.notes.append(f"{where}: left out, since it is disabled")
        else:
            tables.append(_upstream(given, server, where, work))
    if work.problems:
        return Imported("", (), tuple(work.problems))
    if not tables:
        return Imported("", tuple(work.notes), (f"{key}: there is no server to import",))
    return Imported("\n".join(map(_table, tables)), tuple(work.notes))


def _servers(text: str, work: _Import) -> tuple[dict[str, Any], str]:
    try:
        found = json.loads(text)
    except RecursionError:
        work.problems.append("it is nested too deeply")
        return {}, ""
    except json.JSONDecodeError as error:
        hint = "; JSON has no comments" if re.search(r"^\s*//", text, re.MULTILINE) else ""
        work.problems.append(f"line {error.lineno}, column {error.colno}: is no JSON: {error.msg}{hint}")
        return {}, ""
    for path in (("mcpServers",), ("servers",), ("mcp", "servers")):
        inner = found
        for step in path:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if inner is not None:
            key = ".".join(path)
            if isinstance(inner, dict):
                return inner, key
            work.problem(key, "is no object; it must be name -> server")
            return {}, key
    work.problems.append('there is no "mcpServers" in it')
    return {}, ""


def _upstream(given: str, server: dict[str, Any], where: str, work: _Import) -> list[tuple[str, Any]]:
    name = work.name(given, where)
    left = sorted(set(server) - _KNOWN)
    if left:
        work.notes.append(f"{where}: left out, since it means nothing here: {', '.join(left)}")
    kind = str(server.get("type", server.get("transport", ""))).lower()
    urls = [key for key in _URL_KEYS if key in server]
    if kind and kind not in _LOCAL | _REMOTE:
        work.problem(f"{where}.type", f"{kind!r} is none of stdio, http, sse")
    elif "command" in server and urls:
        work.problem(where, f"has both command and {urls[0]}; which of them?")
    elif kind in _REMOTE and not urls:
        work.problem(where, f"is of type {kind}, and has no url")
    elif kind in _LOCAL and "command" not in server:
        work.problem(where, f"is of type {kind}, and has no command")
    elif urls:
        return _remote(name, server, urls[0], where, work)
    elif "command" in server:
        return _local(name, server, where, work)
    else:
        work.problem(where, "has neither command nor url")
    return []


def _local(name: str, server: dict[str, Any], where: str, work: _Import) -> list[tuple[str, Any]]:
    command = _text(server["command"], f"{where}.command", work)
    arguments = server.get("args", [])
    if not isinstance(arguments, list):
        work.problem(f"{where}.args", "is no list")
        arguments = []
    words = [command, *(_text(one, f"{where}.args[{at}]", work) for at, one in enumerate(arguments))]
    _warn_of_words(words, where, work)
    table: list[tuple[str, Any]] = [("name", name), ("transport", "stdio"), ("command", words)]
    if server.get("cwd") is not None:
        table.append(("cwd", _text(server["cwd"], f"{where}.cwd", work)))
    env = _values(server.get("env"), f"{where}.env", name, work, variables=True)
    return [*table, ("env", env)] if env else table


def _remote(name: str, server: dict[str, Any], key: str, where: str, work: _Import) -> list[tuple[str, Any]]:
    url = _text(server[key], f"{where}.{key}", work)
    if re.match(r"https?://[^/?#]", url) is None:
        work.problem(f"{where}.{key}", "is no URL with http:// or https://")
    elif re.match(r"https?://[^/?#]*@", url):
        work.problem(f"{where}.{key}", "has a password in it; put it into a header Authorization")
    elif any(_SECRET_NAME.search(one.partition("=")[0]) for one in url.partition("?")[2].split("&") if one):
        work.notes.append(f"{where}.{key}: its query looks like a secret, and stands in the file as it is")
    table: list[tuple[str, Any]] = [("name", name), ("transport", "http"), ("url", url)]
    headers = _values(server.get("headers"), f"{where}.headers", name, work, variables=False)
    return [*table, ("headers", headers)] if headers else table


def _values(given: Any, where: str, name: str, work: _Import, *, variables: bool) -> dict[str, Any]:
    """The environment or the headers: texts, and secrets as variables of ours."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        work.problem(where, "is no object; it must be name -> text")
        return {}
    found: dict[str, Any] = {}
    for key, value in given.items():
        here = f"{where}.{key}"
        if variables and _VARIABLE.fullmatch(key) is None:
            work.problem(here, "is no name of an environment variable")
            continue
        text = str(value).lower() if isinstance(value, bool) else value
        text = str(text) if isinstance(text, int | float) else text
        text = _text(text, here, work, empty=variables)
        wanted = key if variables else f"{name}_{key}"
        found[key] = _value(
            text, re.sub(r"[^A-Za-z0-9_]", "_", wanted), key, here, name, work, variables=variables
        )
    return found


def _value(
    text: str, wanted: str, key: str, where: str, upstream: str, work: _Import, *, variables: bool
) -> str | _Variable:
    if not text:
        return text
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        work.notes.append(f"{where}: read from the environment variable {whole[1]}, which must be set")
        return _Variable(whole[1])
    secret = _SECRET_NAME.search(key) or _SECRET_VALUE.match(text)
    if not secret and _PLACEHOLDER.search(text) is None:
        return text
    variable = work.variable(wanted if variables else wanted.upper(), upstream, text)
    what = "what was asked for" if _ASKED.search(text) else "the value that it has there"
    if _PLACEHOLDER.search(text) and not _ASKED.search(text):
        what = "its value, with what ${…} stands for"
    work.notes.append(f"{where}: a secret; put {what} into the environment variable {variable}")
    return _Variable(variable)


def _warn_of_words(words: Sequence[str], where: str, work: _Import) -> None:
    for at, word in enumerate(words[1:]):
        here = f"{where}.args[{at}]"
        flag, equals, value = word.partition("=")
        before = words[at]
        named = bool(
            (equals and value and _FLAG.fullmatch(flag) and _SECRET_NAME.search(flag))
            or (at and _FLAG.fullmatch(before) and _SECRET_NAME.search(before) and not word.startswith("-"))
        )
        if _PLACEHOLDER.search(word):
            work.problem(here, "has a placeholder, which nobody fills in here; write the value")
        elif named or _SECRET_VALUE.match(value if equals else word):
            work.notes.append(
                f"{here}: looks like a secret, and stands in the file as it is; better give it in env, if the server"
                " takes it there"
            )


def _text(value: Any, where: str, work: _Import, *, empty: bool = False) -> str:
    if not isinstance(value, str) or (not value and not empty):
        work.problem(where, "is no text" if not isinstance(value, str) else "is empty")
        return ""
    if re.search(r"[\x00\ud800-\udfff]", value):
        work.problem(where, "has a character that no configuration can hold")
        return ""
    return value


def _table(table: list[tuple[str, Any]]) -> str:
    lines = ["[[upstream]]", *(f"{_key(key)} = {_written(value)}" for key, value in table)]
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    if isinstance(value, _Variable):
        return f"{{ env = {_quoted(value.name)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_written(one)}' for key, one in value.items())} }}"
    return _quoted(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
