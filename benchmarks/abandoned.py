"""Sessions that are opened and abandoned: how much of the daemon's memory they keep.

``python -m benchmarks.abandoned [NUMBER]`` opens them through a real daemon, as clients do that never say goodbye, in
rounds: those that only list and call, and those whose GET stream is cut as well. The first round warms up.
"""

import sys
import tempfile
import time
from pathlib import Path

from benchmarks import web
from benchmarks.environments import cache_folder
from benchmarks.processes import Server, free_port
from benchmarks.servers import PROVIDER, TWISTD, Fleet

IDLE = 30
"""Seconds after which the daemon forgets the streams of a silent client."""
LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'


def main() -> int:
    """Print the figures."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    fleet = Fleet(cache_folder())
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="erlmcp-abandoned-") as folder:
        settings = Path(folder) / "erlmcp.toml"
        settings.write_text(
            f'[server]\nstate = "{folder}/state"\n[limits]\nsessions = {number * 10}\nsession_idle = {IDLE}\n'
            f'[[provider]]\nuse = "{PROVIDER}"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        )
        command = [*TWISTD, "erlmcp", "--config", str(settings)]
        log = Path(folder) / "log"
        with Server(command, log, ports=[port], environment=fleet.environment) as daemon:
            before = daemon.resident_kib()
            print(f"{before / 1024:>8.1f} MB at rest")
            for title, streams, share in (
                (f"{number // 10:,} to warm up", True, 10),
                (f"{number:,} that list and call", False, 1),
                (f"{number:,} more", False, 1),
                (f"{number:,} with a GET stream", True, 1),
                (f"{number:,} more of these", True, 1),
            ):
                used = daemon.processor_seconds()
                for _ in range(number // share):
                    abandon(port, streams=streams)
                now = daemon.resident_kib()
                each = (daemon.processor_seconds() - used) / (number // share) * 1e6
                print(
                    f"{now / 1024:>8.1f} MB after {title}: {(now - before) / (number // share):+.2f} KiB a session, "
                    f"{each:.0f} µs of processor time each",
                    flush=True,
                )
                before = now
            time.sleep(3 * IDLE)
            before = daemon.resident_kib()
            print(
                f"{before / 1024:>8.1f} MB once they are forgotten (Python gives little of it back to the system)"
            )
            for _ in range(number):
                abandon(port, streams=True)
            now = daemon.resident_kib()
            print(
                f"{now / 1024:>8.1f} MB after {number:,} with a GET stream again: "
                f"{(now - before) / number:+.2f} KiB a session"
            )
    return 0


def abandon(port: int, *, streams: bool) -> None:
    """Open a session, list, call, perhaps listen for a moment; then go away without a word."""
    with web.connect(port, tls=False) as connection:
        session = web.initialize(port, connection)
        for body in (LIST, None):
            answer = web.exchange(connection, web.request(port, session, body))
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not answered: {answer[:300]!r}")
    if streams:
        with web.connect(port, tls=False) as connection:
            connection.sendall(web.listening(port, session))
            head = connection.recv(4096)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"no stream: {head[:300]!r}")


if __name__ == "__main__":
    sys.exit(main())
