"""``erlmcp stdio``: one client, on the streams that its host gave to this process."""

import argparse
import sys
from pathlib import Path


def run(options: argparse.Namespace) -> int:
    """Serve until standard input ends."""
    from erlmcp.transports import claim_standard_streams

    # First of all: an import of a provider may print already, and what it prints must not reach the client.
    try:
        claim_standard_streams()
    except OSError as error:
        print(f"erlmcp stdio: standard input or output is closed: {error.strerror}", file=sys.stderr)
        return 1
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    import msgspec

    from erlmcp import config, tap
    from erlmcp.telemetry import log_to

    log_to(sys.stderr, options.log_level)
    try:
        transports = config.transports()
        file = None if options.config is None else Path(options.config)
        settings = config.load(file, transports, listen=["stdio"], providers=options.provider)
        own = settings.listen[-1]
        own = msgspec.structs.replace(
            own, options=msgspec.structs.replace(own.options, deadline=settings.server.drain)
        )
        # The file may be that of a daemon: its listeners and its console are the daemon's.
        settings = msgspec.structs.replace(settings, listen=(own,), telemetry=config.TelemetrySettings())
        backends = tap.backends_for(settings, config.providers())
        tap.require_reactor(backends)
        from twisted.internet import reactor

        daemon = tap.make_daemon(settings, backends, reactor)
        daemon.privilegedStartService()
        daemon.startService()
    except (config.ConfigurationError, tap.StartFailed, ValueError) as error:
        print(f"erlmcp stdio: {error}", file=sys.stderr)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()
    return 0
