"""A crowd of callers on one client of the official Python SDK.

Arguments: ``http`` or ``stdio``; the URL or the command; how many callers; seconds.
"""

import json
import os
from typing import Any

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from benchmarks.crowd import MESSAGE, Crowd, Order


async def run(order: Order) -> None:
    if order.way == "stdio":
        command, *arguments = json.loads(order.server)
        server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
        await measure(server, order)
        return
    # Its own HTTP client but for one thing: it would give up on calls that wait for a connection for 30 s.
    async with httpx2.AsyncClient(timeout=600.0) as patient:
        await measure(streamable_http_client(order.server, http_client=patient), order)


async def measure(server: Any, order: Order) -> None:
    async with Client(server) as client:

        async def call() -> object:
            content: Any = (await client.call_tool("echo", {"message": MESSAGE})).content[0]
            return content.text

        await client.list_tools()
        await call()
        crowd = Crowd(order.seconds)
        async with anyio.create_task_group() as callers:
            for _ in range(order.callers):
                callers.start_soon(crowd.caller, call)
        crowd.tell()


anyio.run(run, Order.read())
