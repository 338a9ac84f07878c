"""What basic/transports demands of a server."""

from tests.interaction.model import (
    MUST,
    MUST_NOT,
    SHOULD,
    SHOULD_NOT,
    author,
    elsewhere,
    later,
    not_served,
    page,
    tested,
)

INDEX = page(
    "basic/transports/index",
    Messages=(
        tested("messages.1", MUST, "Messages are UTF-8."),
        tested(
            "messages.2",
            MUST,
            "Requests and notifications reach the server; responses and notifications its client; nothing else.",
        ),
    ),
    Custom__Transports=(
        tested(
            "custom.1", MUST, "Lines over TCP keep messages, patterns and per-request metadata as they are."
        ),
        elsewhere(
            "custom.2",
            SHOULD,
            "A transport of our own documents connection, framing and cancellation.",
            "test_interaction_table.Document.test_describes_the_tcp_transport",
        ),
        tested("custom.3", SHOULD, "Over byte streams the framing of stdio is used."),
    ),
)

STDIO = page(
    "basic/transports/stdio",
    introduction=(
        tested("framing.1", MUST_NOT, "A message holds no newline."),
        tested("framing.2", MUST_NOT, "Nothing but messages goes to standard output."),
        tested("framing.3", SHOULD, "Other byte streams have the same framing and message rules."),
    ),
    Receiving__Messages=(tested("requests.1", MUST_NOT, "No request is written to standard output."),),
    Cancellation=(
        tested("cancellation.1", SHOULD, "Work on a cancelled request stops as soon as it can."),
        tested("cancellation.2", MUST_NOT, "No further message is sent for a cancelled request."),
    ),
    Shutdown=(tested("shutdown.1", SHOULD, "The server exits when its standard input ends."),),
)

HTTP = page(
    "basic/transports/streamable-http",
    introduction=(tested("endpoint.1", MUST, "There is one endpoint, which takes POST."),),
    **{
        "Security & Endpoint": (
            tested("security.1", MUST, "Origin is checked on every request."),
            tested("security.2", MUST, "A foreign Origin gets 403."),
            tested("security.3", SHOULD, "By default it listens on loopback."),
            later(
                "security.4",
                SHOULD,
                "Connections are authenticated.",
                "Authorization has an issue of its own. Until then a listener that others can reach is refused at "
                'start, unless it says auth = "none".',
            ),
        ),
    },
    Sending__Messages=(
        tested("sending.1", MUST, "A notification that is taken gets 202 without a body."),
        tested("sending.2", MUST, "A notification that cannot be taken gets an error status."),
        tested("sending.3", MUST, "A request gets application/json or text/event-stream."),
        tested("sending.4", MUST, "A body that is no single request or notification is refused."),
    ),
    Receiving__Messages=(
        tested("receiving.1", MUST, "Notifications on a response stream belong to its request."),
        tested("receiving.2", MUST_NOT, "No requests are sent on it."),
        tested("receiving.3", SHOULD, "The response ends the stream."),
        tested("receiving.4", SHOULD, "Streams say X-Accel-Buffering: no."),
    ),
    Cancellation=(
        tested("cancellation.1", MUST, "A client that closes the stream has cancelled."),
        tested("cancellation.2", SHOULD, "Work on a cancelled request stops as soon as it can."),
        tested("cancellation.3", MUST_NOT, "No further message is sent for it."),
    ),
    Protocol__Version__Header=(
        tested("version.1", MUST, "A version header that differs from the body gets 400 and -32020."),
        tested(
            "version.2", MUST, "A version that is not served gets 400 and -32022, which lists those that are."
        ),
        tested("version.3", MUST, "An unknown method gets 404 and -32601."),
        tested("version.4", MUST, "A request without the version header is refused."),
    ),
    Standard__Request__Headers=(
        tested(
            "headers.1", MUST, "MCP-Protocol-Version, Mcp-Method and Mcp-Name are required where they apply."
        ),
    ),
    Schema__Extension=(
        tested("x-mcp-header.1", MUST_NOT, "x-mcp-header is not empty."),
        tested("x-mcp-header.2", MUST, "x-mcp-header is a token of RFC 9110."),
        tested("x-mcp-header.3", MUST_NOT, "x-mcp-header has no control characters."),
        tested("x-mcp-header.4", MUST, "x-mcp-header is unique in a schema, whatever its case."),
        tested("x-mcp-header.5", MUST, "x-mcp-header stands on integers, strings and booleans alone."),
        tested("x-mcp-header.6", MUST, "Integers that are mirrored stay within what a double holds exactly."),
        tested(
            "x-mcp-header.7",
            MUST,
            "x-mcp-header stands on properties that are reached through properties alone.",
        ),
    ),
    Value__Encoding=(
        tested("encoding.1", MUST, "The Base64 sentinel is decoded before a value is compared."),
        tested("encoding.2", MUST, "The sentinel counts only as it is written, in lower case."),
    ),
    Server__Behavior__for__Custom__Headers=(
        not_served(
            "custom.1",
            MUST,
            "An intermediary forwards Mcp-Param headers that it does not know.",
            "This is no intermediary; the gateway has an issue of its own.",
        ),
        tested("custom.2", MUST, "A known Mcp-Param header with invalid characters is refused."),
        tested("custom.3", MUST, "Mcp-Param headers are compared with the body."),
        tested("custom.4", MUST, "One that differs gets 400 and -32020."),
        tested("custom.5", MUST_NOT, "A null argument expects no header."),
        tested("custom.6", MUST_NOT, "An absent argument expects no header."),
        tested("custom.7", MUST, "An argument whose header is missing is refused."),
    ),
    Case__Sensitivity=(
        tested("case.1", MUST, "Header names are compared whatever their case; values are not."),
    ),
    Server__Validation=(
        tested("validation.1", MUST, "A request whose headers differ from its body is refused."),
        tested("validation.2", SHOULD, "Integers are compared as numbers."),
        tested("validation.3", MUST, "The refusal has status 400."),
        tested("validation.4", MUST, "The refusal is a JSON-RPC error with -32020."),
        tested("validation.5", MUST, "Encoded values are decoded first."),
        not_served(
            "validation.6",
            MUST,
            "Intermediaries answer validation failures with an HTTP error, and distrust versions without validation.",
            "This is no intermediary; the gateway has an issue of its own.",
        ),
    ),
    Earlier__Streamable__HTTP__Revisions=(
        tested("earlier.1", SHOULD, "GET and DELETE get 405."),
        tested("earlier.2", SHOULD, "Mcp-Session-Id is ignored, and none is made or echoed."),
        tested("earlier.3", SHOULD, "Last-Event-ID is ignored."),
    ),
    **{
        "HTTP+SSE Transport (2024-11-05)": (
            tested("sse.1", SHOULD_NOT, "The HTTP+SSE transport is not adopted."),
        ),
        "Custom Headers from Tool Parameters": (
            author(
                "secrets.1",
                SHOULD_NOT,
                "Secrets are not mirrored into headers (server/tools says so too).",
                "Which parameters are mirrored is up to who writes the tool.",
            ),
        ),
    },
)

TABLE = (*INDEX, *STDIO, *HTTP)
