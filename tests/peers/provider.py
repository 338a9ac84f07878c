"""What the official SDK's clients talk to: one of everything that a client can notice."""

from dataclasses import dataclass

from twisted.internet import task

from erlmcp import Context, Provider, ToolError

provider = Provider("peers", title="For peers", instructions="Ask anything.")
given_up = 0


@dataclass
class Name:
    name: str


@dataclass
class Certainty:
    sure: bool


@provider.tool
async def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@dataclass
class Division:
    quotient: int
    rest: int


@provider.tool
async def divide(a: int, b: int) -> Division:
    """Divide with a rest."""
    return Division(*divmod(a, b))


@provider.tool
def fail(reason: str) -> str:
    """Fail for a reason."""
    raise ToolError(reason)


@provider.tool
async def greet(ctx: Context) -> str:
    """Ask for a name, then whether it is right, then greet."""
    name = await ctx.elicit("What is your name?", Name, key="name")
    if name.action != "accept":
        return f"no name: {name.action}"
    sure = await ctx.elicit("Are you sure?", Certainty, key="sure")
    return f"Hello, {name.data.name}! sure={sure.data.sure}"


@provider.tool
async def consult(ctx: Context) -> str:
    """Ask the client's model and for its roots."""
    answer = await ctx.sample("ping", max_tokens=10, key="model")
    roots = await ctx.roots(key="roots")
    return f"{answer.text}, with {[root.uri for root in roots]}"


@provider.tool
async def delegate(ctx: Context) -> str:
    """Give the client's model a tool, and tell which kinds of block it answered with."""
    tool = {"name": "weather", "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    answer = await ctx.sample("sun", max_tokens=10, tools=[tool], key="model")
    return f"{answer.stop_reason}: {[block['type'] for block in answer.content]}"


@provider.tool
async def visit(ctx: Context) -> str:
    """Send the user to a page."""
    answer = await ctx.elicit_url("Please sign in", "https://example.com/sign-in", key="page")
    return f"the user says {answer.action}"


@provider.tool
async def errand(ctx: Context) -> str:
    """Let the client go, and come back for the answer."""
    ctx.leave()
    await _pause(0.05)
    return "done meanwhile"


@provider.tool
async def count(to: int, ctx: Context) -> str:
    """Count, and tell each number."""
    ctx.debug("not wanted")
    for number in range(1, to + 1):
        ctx.report_progress(number, to, f"number {number}")
        await _pause(0.01)
    ctx.warning("counted")
    return "done"


@provider.tool
async def wait(ctx: Context) -> str:
    """Begin, and go on until nobody wants it."""

    def gone() -> None:
        global given_up
        given_up += 1

    ctx.on_cancel(gone)
    ctx.report_progress(1)
    await _pause(60.0)
    return "nobody gave up"


@provider.tool
async def cancelled() -> str:
    """How many have given up waiting."""
    return str(given_up)


@provider.tool
async def learn(trick: str) -> str:
    """Become able to do something new."""

    async def perform() -> str:
        return f"here I {trick}"

    provider.add_tool(perform, name=trick, description=f"Do the {trick}.")
    provider.notify_updated("notes://today")
    return "learnt"


@provider.resource("notes://today", mime_type="text/plain")
async def today() -> str:
    """What is on today."""
    return "nothing"


@provider.resource("notes://picture", mime_type="image/png")
async def picture() -> bytes:
    """Not really a picture."""
    return b"\x89PNG"


@provider.resource("notes://{number}/page", mime_type="text/plain")
async def page(number: str) -> str:
    """One page."""
    return f"page {number}"


@provider.prompt
async def review(language: str) -> str:
    """Ask for a review."""
    return f"Please review this {language} code."


@provider.completion("review", "language")
async def languages(value: str) -> list[str]:
    """Languages that begin so."""
    return [name for name in ("python", "pyret", "ruby") if name.startswith(value)]


async def _pause(seconds: float) -> None:
    from twisted.internet import reactor  # a provider of our own in a daemon: its reactor is the daemon's

    await task.deferLater(reactor, seconds)
