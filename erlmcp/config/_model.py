"""The configuration, once it has been checked: frozen values, every default filled in."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from erlmcp.config._problems import Problem
from erlmcp.config._secrets import Secret
from erlmcp.config._upstreams import PoolTable, SandboxTable, UpstreamSettings
from erlmcp.interfaces import WireLimits

Bytes = Annotated[int, Meta(ge=1024, le=1 << 31, extra={"unit": "bytes"})]
Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86400)]
Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
ViewName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Exposure = Literal["all", "search"]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[server]``: who it says it is, and what outlives it.

    Attributes:
        name, title, version: as clients see them; the version's default is erlmcp's own.
        instructions: guidance for the model; that of the providers where empty.
        state: the directory for what outlives the process; None for none.
        runtime: the directory for the admin socket, which nobody else may enter; None for none.
        keys: sealing keys, newest first.
        workers: how many processes serve; 0 for the daemon itself.
        drain: seconds that calls in flight get when the daemon ends.
        page_size: entries on one page of a list.
        middleware: plugins around the dispatch of each request, by name, the first outermost.
    """

    name: Text = "erlmcp"
    title: Text | None = None
    version: Text | None = None
    instructions: str = ""
    state: Text | None = None
    runtime: Text | None = None
    keys: Secret | None = None
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
    drain: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    page_size: Annotated[int, Meta(ge=1, le=10_000)] = 100
    middleware: tuple[Text, ...] = ()


class ListenerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What ``[limits]`` sets for all listeners and ``[listen.limits]`` for one.

    Attributes:
        connections: connections at once on the listener.
        per_address: connections at once from one address on the listener.
        depth: nesting of a message.
        keys: members of all objects of a message together.
        string: the longest string of a message, in bytes.

    The others are those of `erlmcp.interfaces.WireLimits`.
    """

    message: Bytes = 4 * 1024 * 1024
    in_flight: Count = 256
    write_buffer: Bytes = 1024 * 1024
    headers: Bytes = 32 * 1024
    header_count: Count = 100
    slow: Seconds = 10.0
    lease: Seconds = 30.0
    idle: Seconds = 3600.0
    heartbeat: Seconds = 15.0
    connections: Count = 20_000
    per_address: Count = 1_000
    depth: Annotated[int, Meta(ge=8, le=512)] = 64
    keys: Count = 100_000
    string: Bytes = 4 * 1024 * 1024

    @property
    def wire(self) -> WireLimits:
        """The part that each connection keeps by itself."""
        return WireLimits(**{name: getattr(self, name) for name in WireLimits.__struct_fields__})


class Limits(ListenerLimits, frozen=True, kw_only=True):
    """``[limits]``: for all listeners, and for the process as a whole.

    Attributes:
        concurrency: requests at work at once in the process.
        timeout: seconds for a request whose tool, resource or prompt has no timeout of its own.
        sessions: handshake sessions that one caller may open over HTTP in an hour.
        session_idle: seconds that what can be resumed of such a session is kept without a word from its client.
    """

    concurrency: Count = 10_000
    timeout: Seconds = 60.0
    sessions: Count = 10_000
    session_idle: Seconds = 1_800.0


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[provider]]``.

    Attributes:
        use: ``MODULE:ATTRIBUTE``, or the name of a provider plugin.
        options: the plugin's own table.
        isolation: where it runs: in the daemon itself, or in child processes of its own.
        pool: with ``process``: how many child processes there may be.
        sandbox: with ``process``: how they are confined.
        key: how problems name this table, such as ``provider[1]``.
    """

    use: Text
    options: dict[str, Any] = {}
    isolation: Literal["inline", "process"] = "inline"
    pool: PoolTable = PoolTable()
    sandbox: Literal["none", "rlimits", "bwrap", "systemd-run"] | SandboxTable = "none"
    key: str = ""


class ViewSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[server_view]]``: a server of its own, as clients see it, over a part of everything.

    Attributes:
        name: unique; clients see it as the server's name.
        title: as clients see it.
        instructions: guidance for the model; that of the backends in the view where empty.
        backends: names of providers and upstreams, in the order of preference; None for all.
        allow: globs of names of tools and prompts, and of URIs; what matches none of them is not there.
        deny: the same; what matches one of them is not there.
        expose: ``search``: three tools with which all others are found, in place of a list of them.
        key: how problems name this table, such as ``server_view[1]``.
    """

    name: ViewName
    title: Text | None = None
    instructions: str = ""
    backends: Annotated[tuple[Text, ...], Meta(min_length=1)] | None = None
    allow: tuple[Text, ...] = ("*",)
    deny: tuple[Text, ...] = ()
    expose: Exposure = "all"
    key: str = ""


class ListenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[listen]]``.

    Attributes:
        name: unique; in logs and metrics.
        transport: the transport plugin's name.
        endpoint: a Twisted endpoint description.
        auth: ``none`` if everybody may use a listener that others can reach.
        view: the ``[[server_view]]`` that it shows; None for everything.
        expose: as the view has it, for this listener alone; None for what the view says.
        limits: those of ``[limits]`` with the listener's own on top.
        options: the transport's own keys, as its options struct.
        key: how problems name this table, such as ``listen[1]``.
    """

    name: Text
    transport: str
    endpoint: str = ""
    auth: Literal["none"] | None = None
    view: Text | None = None
    expose: Exposure | None = None
    limits: ListenerLimits = ListenerLimits()
    options: Any = None
    key: str = ""


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[telemetry]``.

    Attributes:
        endpoint: where ``/healthz``, ``/readyz`` and ``/metrics`` are served; None for nowhere.
        auth: ``none`` if the endpoint may be one that others can reach.
        hosts: names that a request's Host may have besides those of this machine's loopback.
        log_level: from which level on the daemon's own log lines are written; what single peers did is at ``debug``.
        log: in which form; None for the journal's where systemd's journal reads them, else text.
        log_arguments: whether logs and spans may show the arguments of requests.
        access_log: which share of the requests is logged, of 1.
        traces: where spans go: nowhere, or to a collector, by OTLP.
        traces_endpoint: the collector's; None for what OpenTelemetry's own variables say.
        traces_share: which share of the traces that begin here is recorded, of 1.
    """

    endpoint: Text | None = None
    auth: Literal["none"] | None = None
    hosts: tuple[Text, ...] = ()
    log_level: Literal["debug", "info", "warn", "error", "critical"] = "info"
    log: Literal["text", "json", "journal"] | None = None
    log_arguments: bool = False
    access_log: Share = 0.0
    traces: Literal["none", "otlp"] = "none"
    traces_endpoint: Text | None = None
    traces_share: Share = 1.0


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[engine]``: where state that is shared is kept.

    Attributes:
        kind: ``embedded``: in the daemon itself, and in its state directory.
        entries: the most entries.
        memory: the most bytes of them.
    """

    kind: Literal["embedded"] = "embedded"
    entries: Count = 250_000
    memory: Bytes = 128 * 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration.

    Attributes:
        places: key -> (file, line) of what can turn out to be wrong only when it is used.
    """

    server: ServerSettings = ServerSettings()
    limits: Limits = Limits()
    providers: tuple[ProviderSettings, ...] = ()
    upstreams: tuple[UpstreamSettings, ...] = ()
    views: tuple[ViewSettings, ...] = ()
    listen: tuple[ListenSettings, ...] = ()
    engine: EngineSettings = EngineSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    places: dict[str, tuple[str, int]] = {}

    def problem(self, key: str, wrong: str, right: str = "") -> Problem:
        """A problem with the value of a key, with its place."""
        file, line = self.places.get(key, ("", 0))
        return Problem(file=file, line=line, key=key, wrong=wrong, right=right)
