"""A process that serves lines on its standard streams, and has a tool that prints wherever it can.

``python -m tests.stdio_process [REACTOR] [DEADLINE]``. Not a test: `tests.test_transports_stdio` starts it.
"""

import ctypes
import os
import subprocess
import sys
from typing import Any

from erlmcp.transports import claim_standard_streams

claim_standard_streams()
if sys.argv[1:2] == ["asyncio"]:
    from twisted.internet import asyncioreactor

    asyncioreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 - the reactor is chosen above

from erlmcp.interfaces import IExchange  # noqa: E402
from erlmcp.transports import StdioTransport  # noqa: E402
from tests.doubles import OpenLimits, RecordingChannel, context  # noqa: E402

reactor: Any = _reactor


def answer(message: bytes, exchange: IExchange) -> None:
    if message == b'"noise"':
        print("from print")
        sys.__stdout__.write("from the original sys.stdout\n")
        os.write(1, b"from os.write\n")
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        subprocess.run(["echo", "from a child"], check=True)
        heard = subprocess.run(["cat"], check=True, stdout=subprocess.PIPE)
        exchange.reply(b"quiet " + heard.stdout)
    elif message == b'"late"':
        reactor.callLater(0.2, exchange.reply, b"late")
    elif message == b'"never"':
        pass
    else:
        exchange.reply(b"echo " + message)


def main() -> None:
    transport = StdioTransport()
    options = transport.options(deadline=float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)
    limits = OpenLimits()
    listener: Any = transport.listener(context(RecordingChannel(answer), limits, reactor), options)
    bound = listener.bind()

    def refused(failure: Any) -> None:
        print(failure.value, file=sys.stderr)
        reactor.callWhenRunning(reactor.stop)

    bound.addErrback(refused)
    listener.ended.addCallback(lambda _: reactor.stop())
    reactor.run()
    assert limits.here == []


if __name__ == "__main__":
    main()
