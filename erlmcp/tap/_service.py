"""From checked options to the service that twistd starts."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

from erlmcp import config
from erlmcp.admin import AdminService
from erlmcp.config import ConfigurationError, Settings
from erlmcp.supervision import ChildSpec
from erlmcp.systemd import Notifier, Watchdog
from erlmcp.tap._assembly import Share, assemble
from erlmcp.tap._daemon import Answers, Daemon
from erlmcp.tap._exit import StartFailed, on_terminal
from erlmcp.tap._in_place import InPlaceChange
from erlmcp.tap._lasting import set_apart
from erlmcp.tap._logging import configure
from erlmcp.tap._options import Options
from erlmcp.tap._parent import Household, own_keys
from erlmcp.tap._reload import Change, HouseholdChange, Reload
from erlmcp.workers import Relay


def makeService(options: Options) -> Daemon:
    """Make the daemon that the options describe; twistd's entry point.

    Raises:
        StartFailed: an endpoint that cannot be, an open listener, keys that cannot be had: with every problem.
    """
    from twisted.internet import reactor

    configure(options.settings.telemetry)
    daemon = make_daemon(options.settings, options.backends, reactor, load=options.load)
    daemon.up = lambda error: set_apart() if error is None else None
    return daemon


def make_daemon(
    settings: Settings,
    backends: Sequence[Any],
    reactor: Any,
    *,
    keep_state: bool = True,
    hangs_up: Callable[[], bool] = on_terminal,
    load: Callable[[], Settings] | None = None,
) -> Daemon:
    """Make a daemon.

    Args:
        settings: the checked configuration.
        backends: what it serves.
        reactor: what it runs on.
        keep_state: whether the engine may have its file in the state directory.
        hangs_up: as `Daemon` has it.
        load: reads the configuration anew, for a reload; None if there is none.

    Raises:
        StartFailed: as `makeService`.
    """
    household = relay = sealing = None
    try:
        if settings.server.workers:
            household = Household(settings, backends, reactor, os.environ, keep_state=keep_state)
            parts = household.parts
        else:
            if load is not None:
                relay = Relay(token_hex(4))
                sealing = own_keys(settings, os.environ)
            parts = assemble(
                settings,
                backends,
                reactor,
                transports=config.transports(),
                environ=os.environ,
                keep_state=keep_state,
                sealing=sealing,
                share=None if relay is None else Share(owner=relay.owner, relay=relay),
            )
    except ConfigurationError as error:
        raise StartFailed(f"erlmcp cannot start:\n{error}") from None
    notifier = Notifier(os.environ)
    watchdog = Watchdog(notifier, reactor, os.environ)
    parts.counters.gauge("erlmcp_reactor_lag_seconds", (), lambda: watchdog.lag)
    answers: Answers = {}
    folder = config.runtime_directory(settings.server) if keep_state else None
    admin = [] if folder is None else [ChildSpec("admin", partial(AdminService, reactor, folder, answers))]
    daemon = Daemon(
        parts,
        reactor,
        drain=settings.server.drain,
        hangs_up=hangs_up,
        notifier=notifier,
        admin_answers=answers,
        frontends=None if household is None else household.spec,
        # Last, so that nobody is told that we are alive before all the rest is there.
        last=[*admin, ChildSpec("watchdog", lambda: watchdog)],
    )
    change: Change | None = None
    if household is not None:
        change = HouseholdChange(household, reactor, os.environ)
    elif relay is not None:
        change = InPlaceChange(daemon, settings, relay, sealing, reactor, os.environ)
    if load is not None and change is not None:
        daemon.reload = Reload(load, change)
        answers["reload"] = lambda _: daemon.take_up()
    return daemon
