"""``[[upstream]]``, and what a provider in a process of its own has in common with one."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from erlmcp.config._credentials import CredentialSettings, read_credentials
from erlmcp.config._lines import Path
from erlmcp.config._shape import check_table
from erlmcp.config._sources import Merged, spell

Bytes = Annotated[int, Meta(ge=1024, le=1 << 40, extra={"unit": "bytes"})]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86400)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Kind = Literal["none", "rlimits", "bwrap", "systemd-run"]
_OF_TRANSPORT = {"stdio": ("command",), "tcp": ("endpoint",), "http": ("url",)}
_CREDENTIALS = CredentialSettings.__struct_fields__
_ONLY = {"cwd": "stdio", "sandbox": "stdio", "env": "stdio", "headers": "http", "token": "http", "oauth": "http",
         "http2": "http", "trust": "http", "connections": "http"}  # fmt: skip


class PoolTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pool = {…}``: how many sessions, or child processes, there may be.

    Attributes:
        size: those that are kept although nobody uses them.
        overflow: those beyond, ended once they are idle.
        idle: seconds until then.
        queue: calls that may wait for one.
        recycle: calls after which one is replaced; 0 for never.
        probe: seconds without a word after which an idle one is asked whether it is there; 0 for never.
    """

    size: Annotated[int, Meta(ge=0, le=1000)] = 1
    overflow: Annotated[int, Meta(ge=0, le=1000)] = 15
    idle: Seconds = 60.0
    queue: Annotated[int, Meta(ge=0, le=1 << 20)] = 10_000
    recycle: Annotated[int, Meta(ge=0)] = 0
    probe: Annotated[float, Meta(ge=0, le=86400)] = 30.0


class SandboxTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``sandbox = {…}``: how a child process is confined; ``sandbox = "KIND"`` is one without limits of its own."""

    kind: Kind = "none"
    memory: Bytes | None = None
    files: Annotated[int, Meta(ge=16, le=1 << 20)] | None = None
    cpu_seconds: Annotated[int, Meta(ge=1)] | None = None
    network: bool = False
    writable: tuple[Text, ...] = ()
    readable: tuple[Text, ...] = ()
    hidden: tuple[Text, ...] = ()


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[upstream]]``.

    Attributes:
        name: unique among backends; in logs, metrics and prefixes.
        transport: how it is reached: ``stdio``, ``http``, or ``tcp``, which is lines at any client endpoint, TLS
            and unix sockets among them.
        command: with ``stdio``: the program and its arguments.
        cwd: with ``stdio``: the folder that it runs in.
        sandbox: with ``stdio``: how it is confined.
        endpoint: with ``tcp``: a Twisted client endpoint: ``tcp:``, ``tls:``, ``unix:``.
        url: with ``http``.
        http2: with ``http``: whether to speak HTTP/2: where TLS agrees, never, or always.
        trust: with ``http``: a file of certificates to believe instead of the platform's.
        era: ``modern``, ``handshake`` or a revision; found out unless it is said.
        stateless: any session will do for any caller.
        pool: how many sessions or child processes there may be.
        start: ``eager`` makes the sessions of `pool` at the start, ``lazy`` when they are needed.
        timeout: seconds for a call.
        connect_timeout: seconds for each step of connecting.
        list_timeout: seconds for each page of its lists.
        refresh: seconds after which its lists are asked for again, if it does not tell of changes.
        names: ``prefix``, ``none``, or a table of own name -> advertised name.
        separator: between prefix and name.
        allow: globs on own names: what is offered at all.
        deny: globs on own names: what is not.
        rename: own name -> advertised name, of single tools and prompts.
        describe: own name -> title and description instead of its own.
        pins: the file of recorded definitions; None for none.
        changed: what becomes of a tool whose definition is not the recorded one.
        credentials: what it is shown of us: the keys ``headers``, ``token``, ``oauth`` and ``env``.
        connections: with ``http``: connections at once.
        key: how problems name this table, such as ``upstream[1]``.
    """

    name: Text
    transport: Literal["stdio", "tcp", "http"]
    command: tuple[Text, ...] = ()
    cwd: Text | None = None
    sandbox: Kind | SandboxTable = "none"
    endpoint: Text | None = None
    url: Text | None = None
    http2: Literal["alpn", "never", "prior_knowledge"] = "alpn"
    trust: Text | None = None
    era: Text | None = None
    stateless: bool = False
    pool: PoolTable = PoolTable()
    start: Literal["lazy", "eager"] = "lazy"
    timeout: Seconds | None = None
    connect_timeout: Seconds = 30.0
    list_timeout: Seconds = 30.0
    refresh: Seconds = 300.0
    names: Literal["prefix", "none"] | dict[str, str] = "prefix"
    separator: str = "."
    allow: tuple[str, ...] | dict[str, tuple[str, ...]] = ("*",)
    deny: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    rename: dict[str, str] = {}
    describe: dict[str, dict[str, str]] = {}
    pins: Text | None = None
    changed: Literal["hide", "flag"] = "hide"
    credentials: CredentialSettings = CredentialSettings()
    connections: Annotated[int, Meta(ge=1, le=10_000)] = 64
    key: str = ""


def read_upstream(table: Any, path: Path, merged: Merged) -> UpstreamSettings | None:
    """One ``[[upstream]]``; None if something is wrong with it, which is noted."""
    before = len(merged.problems)
    values = check_table(
        UpstreamSettings, table, path, merged, without=("key", "credentials"), ours=_CREDENTIALS
    )
    if isinstance(table, dict):
        credentials = read_credentials(table, path, merged)
        if credentials is not None:
            values["credentials"] = credentials
    transport = values.get("transport")
    if isinstance(table, dict) and transport is not None:
        _check_transport(table, transport, path, merged)
    return UpstreamSettings(**values, key=spell(path)) if len(merged.problems) == before else None


def _check_transport(table: Mapping[str, Any], transport: str, path: Path, merged: Merged) -> None:
    for other, keys in _OF_TRANSPORT.items():
        for key in keys:
            if other == transport and key not in table:
                merged.problem((*path, key), "is missing", f'transport = "{transport}" needs it')
            elif other != transport and key in table:
                merged.problem(
                    (*path, key), f'does not belong to transport = "{transport}"', f"it is {other}'s"
                )
    for key, other in _ONLY.items():
        if key in table and other != transport:
            merged.problem((*path, key), f'does not belong to transport = "{transport}"', f"it is {other}'s")
