"""Holds idle connections, each of which has made one call: ``python -m benchmarks.holder PORT NUMBER ADDRESS``.

It prints ``held`` once it has them, and when its standard input ends, how many of them were closed meanwhile.
"""

import socket
import sys

from benchmarks import web

_BIND_ADDRESS_NO_PORT = 24  # of Linux: the port is chosen when it connects, and may be shared by addresses


def main() -> None:
    """Hold them."""
    port, number, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    request = web.request(port)
    held = []
    for _ in range(number):
        one = socket.socket()
        one.settimeout(60.0)
        one.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        one.bind((address, 0))
        one.connect(("127.0.0.1", port))
        web.exchange(one, request)
        one.setblocking(False)  # noqa: FBT003 - Python's signature
        held.append(one)
    print("held", flush=True)
    sys.stdin.read()
    print(sum(map(_is_closed, held)), flush=True)


def _is_closed(one: socket.socket) -> bool:
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
