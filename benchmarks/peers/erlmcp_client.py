"""A crowd of callers on one erlmcp client.

Arguments: ``h2c``, ``http`` or ``tcp``; the URL or the endpoint; how many callers; seconds.
"""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from benchmarks.crowd import MESSAGE, Crowd, Order
from erlmcp.client import Client, http, stream
from erlmcp.web import Pool

HANDFUL = 4


async def run(reactor: Any, order: Order) -> None:
    pool = None
    if order.way == "tcp":
        target = stream(reactor, order.server)
    elif order.way == "h2c":
        pool = Pool(
            reactor,
            http2="prior_knowledge",
            connections_per_origin=HANDFUL,
            streams_per_connection=-(-order.callers // HANDFUL),
            response_head_timeout=600.0,
        )
        target = http(reactor, order.server, pool=pool)
    else:
        pool = Pool(reactor, http2="never", response_head_timeout=600.0)
        target = http(reactor, order.server, pool=pool)
    client = Client(target, reactor, in_flight=order.callers, timeout=600.0)

    async def call() -> object:
        content: Any = (await client.call("echo", {"message": MESSAGE})).content[0]
        return content.text

    await client.list_tools()
    await call()
    crowd = Crowd(order.seconds)
    await gatherResults([Deferred.fromCoroutine(crowd.caller(call)) for _ in range(order.callers)])
    crowd.tell(1 if pool is None else len(pool.connections))
    await client.close()
    if pool is not None:
        await pool.close()


order = Order.read()
react(lambda reactor: Deferred.fromCoroutine(run(reactor, order)))
