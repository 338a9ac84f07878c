"""What a client does in each client scenario of the official conformance suite, with `erlmcp.client` alone."""

import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from erlmcp.client import Answers, Client, Elicitation, accept, http
from erlmcp.client.oauth import (
    AnyGrant,
    Authorization,
    AuthorizationCode,
    ClientCredentials,
    EnterpriseManaged,
    Redirected,
    SigningKey,
    WorkloadIdentity,
)
from erlmcp.web import Pool, fetch

REDIRECT_URI: Final = "http://localhost:3000/callback"
METADATA_URL: Final = "https://conformance-test.local/client-metadata.json"
CONTEXT: Final[dict[str, Any]] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")


class AgreeingUser:
    """A user who agrees at once: the authorization server answers the browser's request with the redirect itself."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prepare(self, preferred: str) -> str:
        """Nothing listens: the redirect is read where it is given."""
        return preferred or REDIRECT_URI

    async def authorize(self, url: str, redirect_uri: str, state: str) -> Redirected:
        """Open the URL, and read where it sends the browser."""
        answer = await fetch(self._pool, "GET", url)
        query = parse_qs(urlsplit(answer.header("location") or "").query)
        given = {name: values[0] for name, values in query.items()}
        return Redirected(**{name: given.get(name) for name in Redirected.__dataclass_fields__})

    def done(self) -> None:
        """Nothing was taken."""


@dataclass
class Scene:
    """What a scenario's steps have at hand.

    Attributes:
        client: to be used.
        asked: runs within an elicitation.
    """

    client: Client
    asked: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)


Steps = Callable[[Scene], Awaitable[None]]


async def list_and_call(scene: Scene) -> None:
    """List the tools and call the first."""
    client = scene.client
    tools = await client.list_tools()
    if tools:
        await client.call(tools[0].name, {"a": 2, "b": 3} if tools[0].name == "add_numbers" else {})


async def list_only(scene: Scene) -> None:
    """List the tools."""
    await scene.client.list_tools()


async def connect_only(scene: Scene) -> None:
    """Shake hands and list."""
    await scene.client.connect()
    await scene.client.list_tools()


async def echo_schema(scene: Scene) -> None:
    """Send a tool's schema back, as it was read."""
    (tool,) = [tool for tool in await scene.client.list_tools() if tool.name == "json_schema_2020_12_tool"]
    await scene.client.call("json_schema_echo", {"schema": tool.input_schema})


async def every_method(scene: Scene) -> None:
    """Use all that the server has."""
    client = scene.client
    for tool in await client.list_tools():
        await client.call(tool.name)
    for resource in await client.list_resources():
        await client.read(resource.uri)
    for prompt in await client.list_prompts():
        await client.get(prompt.name)


async def given_calls(scene: Scene) -> None:
    """Call the tools that the suite names."""
    await scene.client.list_tools()
    for call in CONTEXT["toolCalls"]:
        await scene.client.call(call["name"], call["arguments"])


async def call_what_is_listed(scene: Scene) -> None:
    """Call every tool that the client has not dropped."""
    for tool in await scene.client.list_tools():
        await scene.client.call(tool.name, {"region": "us-west1"})


async def answer_questions(scene: Scene) -> None:
    """Be asked in the middle of calls, and call another tool before answering."""
    client = scene.client
    await client.list_tools()
    scene.asked.append(lambda: client.call("test_mrtr_unrelated"))
    await client.call("test_mrtr_echo_state")
    scene.asked.clear()
    await client.call("test_mrtr_no_state")
    await client.call("test_mrtr_no_result_type")


async def call_one(scene: Scene) -> None:
    """Call the one tool there is."""
    (tool,) = await scene.client.list_tools()
    await scene.client.call(tool.name)


STEPS: Final[dict[str, Steps]] = {
    "initialize": connect_only,
    "request-metadata": list_only,
    "json-schema-ref-no-deref": list_only,
    "json-schema-2020-12-preservation": echo_schema,
    "http-standard-headers": every_method,
    "http-custom-headers": given_calls,
    "http-invalid-tool-headers": call_what_is_listed,
    "sep-2322-client-request-state": answer_questions,
    "elicitation-sep1034-client-defaults": call_one,
    "sse-retry": call_one,
}
"""What is done beside `list_and_call`."""


def grant(scenario: str) -> AnyGrant:
    """The way to a token in a scenario."""
    if scenario == "auth/client-credentials-basic":
        return ClientCredentials(client_id=CONTEXT["client_id"], client_secret=CONTEXT["client_secret"])
    if scenario == "auth/client-credentials-jwt":
        key = SigningKey(CONTEXT["private_key_pem"], CONTEXT.get("signing_algorithm", ""))
        return ClientCredentials(client_id=CONTEXT["client_id"], key=key)
    if scenario == "auth/enterprise-managed-authorization":
        return EnterpriseManaged(
            id_token=lambda: str(CONTEXT["idp_id_token"]),
            idp_client_id=CONTEXT["idp_client_id"],
            idp_issuer=CONTEXT["idp_issuer"],
            idp_token_endpoint=CONTEXT["idp_token_endpoint"],
            client_id=CONTEXT["client_id"],
            client_secret=CONTEXT["client_secret"],
        )
    if scenario == "auth/wif-jwt-bearer":
        return WorkloadIdentity(client_id=CONTEXT["client_id"], assertion=lambda _: str(CONTEXT["valid_jwt"]))
    return AuthorizationCode(
        client_id=CONTEXT.get("client_id", ""),
        client_secret=CONTEXT.get("client_secret", ""),
        client_metadata_url=METADATA_URL,
        redirect_uri=REDIRECT_URI,
        dpop=True if scenario.startswith("auth/dpop") else None,
    )


async def play(clock: Any, scenario: str, url: str) -> None:
    """Do what a scenario wants, against the server at a URL."""
    pool = Pool(clock)
    authorization = None
    if scenario.startswith("auth/"):
        authorization = Authorization(
            url, grant(scenario), fetch=_fetch_with(pool), clock=clock, interaction=AgreeingUser(pool)
        )
    asked: list[Callable[[], Awaitable[Any]]] = []

    async def agree(question: Elicitation) -> dict[str, Any]:
        for step in asked:
            await step()
        confirmed = {"confirmed": True} if "confirmed" in str(question.schema) else {}
        return accept(confirmed)

    client = Client(
        http(clock, url, pool=pool, authorization=authorization),
        clock,
        name="erlmcp-conformance",
        answers=Answers(elicit=agree, roots=[], sample=_no_sample),
        timeout=20.0,
    )
    try:
        await STEPS.get(scenario, list_and_call)(Scene(client, asked))
    finally:
        await client.close()
        await pool.close()


def _no_sample(params: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(f"no scenario samples, and this one wants {params}")


def _fetch_with(pool: Pool) -> Any:
    # The suite's servers are on the loopback, where authorization servers are not looked for otherwise.
    async def send(
        method: str,
        url: str,
        *,
        headers: Any,
        body: bytes,
        limit: int,
        timeout: float,  # noqa: ASYNC109
    ) -> Any:
        return await fetch(pool, method, url, headers=headers, body=body, limit=limit, timeout=timeout)

    return send


def run(scenario: str, url: str) -> int:
    """Play a scenario; the exit status of the process, whose last line names what went wrong."""
    ended: list[str] = []

    def begin(clock: Any) -> Deferred[None]:
        def over(failure: Any) -> None:
            print(failure.getTraceback(), file=sys.stderr)
            causes = [failure.value]
            while causes[-1].__cause__ is not None and len(causes) < 8:
                causes.append(causes[-1].__cause__)
            ended.append(" < ".join(type(cause).__name__ for cause in causes))

        return Deferred.fromCoroutine(play(clock, scenario, url)).addErrback(over)

    with contextlib.suppress(SystemExit):
        react(begin, [], reactor)
    print(f"ended: {ended[0] if ended else 'well'}")
    return 1 if ended else 0
