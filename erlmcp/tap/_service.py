"""From checked options to the service that twistd starts."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from erlmcp import config
from erlmcp.admin import AdminService
from erlmcp.config import ConfigurationError, Settings
from erlmcp.supervision import ChildSpec
from erlmcp.systemd import Notifier, Watchdog
from erlmcp.tap._assembly import assemble
from erlmcp.tap._daemon import Answers, Daemon
from erlmcp.tap._exit import StartFailed, on_terminal
from erlmcp.tap._logging import configure
from erlmcp.tap._options import Options
from erlmcp.tap._parent import Household
from erlmcp.tap._reload import HouseholdChange, Reload


def makeService(options: Options) -> Daemon:
    """Make the daemon that the options describe; twistd's entry point.

    Raises:
        StartFailed: an endpoint that cannot be, an open listener, keys that cannot be had: with every problem.
    """
    from twisted.internet import reactor

    configure(options.settings.telemetry)
    return make_daemon(options.settings, options.backends, reactor, load=options.load)


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
    household = None
    try:
        if settings.server.workers:
            household = Household(settings, backends, reactor, os.environ, keep_state=keep_state)
            parts = household.parts
        else:
            parts = assemble(
                settings,
                backends,
                reactor,
                transports=config.transports(),
                environ=os.environ,
                keep_state=keep_state,
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
    if load is not None and household is not None:
        daemon.reload = Reload(load, HouseholdChange(household, reactor, os.environ))
        answers["reload"] = lambda _: daemon.take_up()
    return daemon
