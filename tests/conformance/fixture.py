"""What the conformance suite expects of a server: tools ``test_*``, resources ``test://…``, prompts.

Names, arguments and answers are the suite's; everything else is the public authoring API.
"""

import io
import struct
import wave
import zlib
from typing import Annotated, Any, TypedDict

from twisted.internet import defer, task

from erlmcp import Audio, Context, EmbeddedResource, Field, Image, Message, Provider, ToolError

provider = Provider("conformance", title="Conformance fixture")


def _png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def _wav() -> bytes:
    """Eight samples of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 8)
    return buffer.getvalue()


PNG, WAV = _png(), _wav()


class Name(TypedDict):
    name: str


class Color(TypedDict):
    color: str


class Confirmation(TypedDict):
    ok: bool


class Background(TypedDict):
    context: str


class User(TypedDict):
    username: Annotated[str, Field(description="User's response")]
    email: Annotated[str, Field(description="User's email address")]


DEFAULTS: dict[str, Any] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_PLAIN = ["option1", "option2", "option3"]
_TITLED = [
    {"const": "value1", "title": "First Option"},
    {"const": "value2", "title": "Second Option"},
    {"const": "value3", "title": "Third Option"},
]
CHOICES: dict[str, Any] = {
    "untitledSingle": {"type": "string", "enum": _PLAIN},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _PLAIN}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


@provider.tool
async def test_simple_text() -> str:
    """Answer with text."""
    return "This is a simple text response for testing."


@provider.tool
async def test_image_content() -> Image:
    """Answer with an image."""
    return Image(PNG, "image/png")


@provider.tool
async def test_audio_content() -> Audio:
    """Answer with sound."""
    return Audio(WAV, "audio/wav")


@provider.tool
async def test_embedded_resource() -> EmbeddedResource:
    """Answer with a resource in the result."""
    return EmbeddedResource("test://embedded-resource", "This is an embedded resource content.", "text/plain")


@provider.tool
async def test_multiple_content_types() -> list[str | Image | EmbeddedResource]:
    """Answer with text, an image and a resource."""
    data = EmbeddedResource(
        "test://mixed-content-resource", '{"test":"data","value":123}', "application/json"
    )
    return ["Multiple content types test:", Image(PNG, "image/png"), data]


@provider.tool
async def test_error_handling() -> str:
    """Fail as a tool fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@provider.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Tell three steps of progress."""
    for step in (0, 50, 100):
        ctx.report_progress(step, 100, f"Completed step {step} of 100")
        await _pause(0.02)
    return "All steps are done."


@provider.tool
async def test_logging_tool(ctx: Context) -> str:
    """Log, for those who asked for it."""
    ctx.info("Tool execution started")
    await _pause(0.02)
    ctx.info("Tool execution completed")
    return "Logged."


@provider.tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Log three steps, for a client that set a level."""
    for step in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        ctx.info(step)
        await _pause(0.05)
    return "Logged in three steps."


@provider.tool
async def test_reconnection(ctx: Context) -> str:
    """Let the client go in the middle of the call, and come back for the answer."""
    ctx.leave()
    await _pause(0.1)
    return "The client came back."


@provider.tool
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Have the client's model answer a prompt."""
    answer = await ctx.sample(prompt, max_tokens=100)
    return f"LLM response: {answer.text}"


@provider.tool
async def test_elicitation(message: str, ctx: Context) -> str:
    """Show the user a message, and ask who they are."""
    answer = await ctx.elicit(message, User)
    return f"User response: action={answer.action}, content={answer.data}"


@provider.tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default for each kind of field."""
    answer = await ctx.elicit("Please review and update the form", _object(DEFAULTS))
    return f"Elicitation completed: action={answer.action}, content={answer.data}"


@provider.tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask with each kind of choice."""
    answer = await ctx.elicit("Please select options", _object(CHOICES))
    return f"Elicitation completed: action={answer.action}, content={answer.data}"


@provider.tool
async def test_missing_capability(ctx: Context) -> str:
    """Need a client that can sample."""
    await ctx.sample("Say hello", max_tokens=10)
    return "The client can sample."


@provider.tool
async def test_streaming_elicitation(ctx: Context) -> str:
    """Ask the user in the middle of a call."""
    answer = await ctx.elicit("What is your name?", Name, key="user_name")
    return f"The user says: {answer.action}"


@provider.tool
async def test_x_mcp_header(region: Annotated[str, Field(header="Region", description="Where.")]) -> str:
    """Take an argument that HTTP clients mirror into a header."""
    return f"region={region}"


@provider.tool
async def test_trigger_tool_change() -> str:
    """Change the list of tools."""
    provider.add_tool(test_simple_text, name="test_dynamic_tool")
    provider.remove_tool("test_dynamic_tool")
    return "The tools have changed."


@provider.tool
async def test_trigger_prompt_change() -> str:
    """Change the list of prompts."""
    provider.add_prompt(test_simple_prompt, name="test_dynamic_prompt")
    provider.remove_prompt("test_dynamic_prompt")
    return "The prompts have changed."


@provider.tool
async def test_input_required_result_elicitation(ctx: Context) -> str:
    """Ask for a name."""
    answer = await ctx.elicit("What is your name?", Name, key="user_name")
    return f"Hello, {answer.data['name']}!" if answer.action == "accept" else "Hello, stranger!"


@provider.tool
async def test_input_required_result_sampling(ctx: Context) -> str:
    """Ask the client's model."""
    answer = await ctx.sample("What is the capital of France?", max_tokens=100, key="capital_question")
    return answer.text


@provider.tool
async def test_input_required_result_list_roots(ctx: Context) -> str:
    """Ask for the roots."""
    roots = await ctx.roots(key="client_roots")
    return f"Roots: {', '.join(root.uri for root in roots)}"


@provider.tool
async def test_input_required_result_request_state(ctx: Context) -> str:
    """Ask for a confirmation, and go on where it stopped."""
    await ctx.elicit("Please confirm", Confirmation, key="confirm")
    return "state-ok: the call went on with its answer"


@provider.tool
async def test_input_required_result_tampered_state(ctx: Context) -> str:
    """Ask for a confirmation; a forged state must never get here."""
    await ctx.elicit("Please confirm", Confirmation, key="confirm")
    return "confirmed"


@provider.tool
async def test_input_required_result_multiple_inputs(ctx: Context) -> str:
    """Ask three things at once."""
    name, greeting, roots = await _together(
        ctx.elicit("What is your name?", Name, key="user_name"),
        ctx.sample("Generate a greeting", max_tokens=50, key="greeting"),
        ctx.roots(key="client_roots"),
    )
    return f"{greeting.text} {name.data} {len(roots)} roots"


@provider.tool
async def test_input_required_result_multi_round(ctx: Context) -> str:
    """Ask twice, one after the other."""
    name = await ctx.elicit("Step 1: What is your name?", Name, key="step1")
    color = await ctx.elicit("Step 2: What is your favorite color?", Color, key="step2")
    return f"{name.data} likes {color.data}"


@provider.tool
async def test_input_required_result_capabilities(ctx: Context) -> str:
    """Ask only what this client can be asked."""
    asks = []
    if ctx.capabilities.sampling:
        asks.append(ctx.sample("Say hello", max_tokens=50, key="sample"))
    if ctx.capabilities.elicitation:
        asks.append(ctx.elicit("What is your name?", Name, key="ask"))
    answers = await _together(*asks)
    return f"{len(answers)} answers"


FULL_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@provider.tool(name="json_schema_2020_12_tool", input_schema=FULL_SCHEMA)
async def json_schema_tool(**arguments: Any) -> str:
    """Take arguments by a schema that is written out."""
    return f"{len(arguments)} arguments"


@provider.resource("test://static-text", mime_type="text/plain")
async def static_text() -> str:
    """Text that never changes."""
    return "This is the content of the static text resource."


@provider.resource("test://static-binary", mime_type="image/png")
async def static_binary() -> bytes:
    """An image that never changes."""
    return PNG


@provider.resource("test://watched-resource", mime_type="text/plain")
async def watched() -> str:
    """Something to subscribe to."""
    return "Watched resource content"


@provider.resource("test://template/{id}/data", mime_type="application/json")
async def template_data(id: str) -> dict[str, Any]:  # noqa: A002 - the suite's own name
    """Data for an id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


@provider.prompt
async def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@provider.prompt
async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@provider.prompt
async def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite's own name
    """A prompt with a resource in it."""
    resource = EmbeddedResource(resourceUri, "Embedded resource content for testing.", "text/plain")
    return [Message(resource), Message("Please process the embedded resource above.")]


@provider.prompt
async def test_prompt_with_image() -> list[Message]:
    """A prompt with an image in it."""
    return [Message(Image(PNG, "image/png")), Message("Please analyze the image above.")]


@provider.prompt
async def test_input_required_result_prompt(ctx: Context) -> str:
    """A prompt that asks before it answers."""
    answer = await ctx.elicit("What context should the prompt use?", Background, key="user_context")
    return f"Use the following context: {answer.data}"


@provider.completion("test_prompt_with_arguments", "arg1")
async def complete_arg1(value: str) -> list[str]:
    """Words that begin so."""
    return [word for word in ("paris", "park", "party", "testing") if word.startswith(value)]


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


async def _together(*asks: Any) -> list[Any]:
    """Ask several things in one round."""
    return list(await defer.gatherResults([defer.ensureDeferred(ask) for ask in asks]))


async def _pause(seconds: float) -> None:
    from twisted.internet import reactor  # the fixture runs in a daemon of its own: that is its reactor

    await task.deferLater(reactor, seconds)
