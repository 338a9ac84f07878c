"""``erlmcp plugins``."""

import argparse


def run(options: argparse.Namespace) -> int:
    """List transports and providers, each with the module that declares it."""
    from erlmcp.config import declared
    from erlmcp.interfaces import IProvider, ITransport

    del options
    for title, interface in (("transports", ITransport), ("providers", IProvider)):
        print(f"{title}:")
        rows = declared(interface)
        width = max((len(name) for name, _ in rows), default=0)
        for name, place in rows:
            print(f"  {name:<{width}}  {place}")
        if not rows:
            print("  none")
    return 0
