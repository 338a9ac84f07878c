"""The command line of ``twistd erlmcp``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from twisted.python import usage

from erlmcp import config
from erlmcp.tap._assembly import backends_for
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._logging import arrange, observer

_CHROOT = (
    "erlmcp cannot start:\ntwistd --chroot: the interpreter imports modules as it needs them (codecs, TLS, providers),"
    " runs children (isolated providers, stdio upstreams) and reads files (certificates, keys, time zones) after"
    " the start, and none of them would be there. Let systemd confine it (systemd/erlmcp.service; RootDirectory= or"
    " RootImage= for a root of its own), or put a whole installation there and run chroot(8) around twistd"
)

_ASYNCIO = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"


class Options(usage.Options):
    """Options of ``twistd erlmcp``; `postOptions` reads and checks the configuration.

    Attributes:
        settings: the checked configuration.
        backends: what serves, in the order of the configuration.
    """

    optParameters = (
        ("config", "c", None, "A TOML file, with NAME.d/*.toml beside NAME.toml as its drop-ins."),
    )

    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    longdesc = (
        "Serve MCP (the Model Context Protocol). Without options the demo provider is served at"
        " http://127.0.0.1:8765/mcp. `erlmcp check FILE` checks a configuration without starting anything."
    )

    settings: config.Settings
    backends: Sequence[Any]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self["provider"] = []

    def opt_listen(self, spec: str) -> None:
        """Listen here too, TRANSPORT:ENDPOINT, such as http:tcp:8765:interface=127.0.0.1 (may be repeated)."""
        self["listen"].append(spec)

    def opt_provider(self, use: str) -> None:
        """Serve this provider too, MODULE:ATTRIBUTE or the name of a plugin (may be repeated)."""
        self["provider"].append(use)

    def postOptions(self) -> None:
        """Read and check all that can be checked without a reactor, then make sure of the right reactor.

        Raises:
            StartFailed: with every problem found. The options themselves were right: their explanation would only
                bury what is wrong.
        """
        _refuse_chroot(self.parent)
        if self["config"] is not None:
            # A daemon in the background is somewhere else when it reads the file again.
            self["config"] = str(Path(self["config"]).absolute())
        try:
            self.settings = self.load()
            self.backends = backends_for(self.settings, config.providers())
            require_reactor(self.backends)
        except (config.ConfigurationError, ValueError) as error:
            raise StartFailed(f"erlmcp cannot start:\n{error}") from error
        arrange(self.parent, self.settings.telemetry)

    def load(self) -> config.Settings:
        """Read and check the configuration as it is now.

        Raises:
            erlmcp.config.ConfigurationError: with every problem found.
        """
        file = self["config"]
        return config.load(
            None if file is None else Path(file),
            config.transports(),
            listen=self["listen"],
            providers=self["provider"],
            daemon=True,
        )

    def log_observer(self, stream: TextIO | None = None) -> Any:
        """A log observer as configured: for a ``.tac`` file, where twistd does not ask us for one.

        Args:
            stream: where to write; standard output if None.
        """
        return observer(self.settings.telemetry, sys.stdout if stream is None else stream)


def _refuse_chroot(parent: Any) -> None:
    """Refuse ``twistd --chroot``, which goes in before anything of ours has started.

    Raises:
        StartFailed: it was given.
    """
    if parent is not None and parent.get("chroot"):
        raise StartFailed(_CHROOT)


def require_reactor(backends: Sequence[Any]) -> None:
    """Install the asyncio reactor if a backend needs asyncio. To be called before any reactor is imported.

    Raises:
        ValueError: another reactor is installed already.
    """
    needing = [backend.name for backend in backends if getattr(backend, "needs_asyncio", False)]
    if not needing:
        return
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
        return
    kind = type(installed)
    if f"{kind.__module__}.{kind.__qualname__}" != _ASYNCIO:
        raise ValueError(
            f"the provider {needing[0]!r} needs asyncio, but the reactor {kind.__qualname__} is installed already:"
            " run twistd --reactor=asyncio, and let no module import twisted.internet.reactor when it is imported"
        )
