"""What server/discover, tools, resources and prompts demand of a server."""

from tests.interaction.model import (
    MUST,
    MUST_NOT,
    SHOULD,
    SHOULD_NOT,
    author,
    elsewhere,
    later,
    otherwise,
    page,
    tested,
)

RATE = (
    "The rate gate stands in its place in the pipeline and lets through until the governor's issue. What runs at once "
    "is bounded by the admission gate (tests.test_governor_gates)."
)

DISCOVER = page(
    "server/discover",
    introduction=(tested("discover.1", MUST, "server/discover is there."),),
    DiscoverResult=(tested("discover.2", SHOULD, "Its result says the server's name and version in _meta."),),
)

TOOLS = page(
    "server/tools",
    Capabilities=(
        tested("capability.1", MUST, "A server with tools declares the tools capability."),
        tested("list.1", MUST, "tools/list gives the tools that the caller may use now."),
        tested("list.2", MUST_NOT, "The list does not depend on the connection, or on earlier requests."),
        tested("list.3", SHOULD, "The order of tools is always the same."),
    ),
    List__Changed__Notification=(
        tested("changed.1", SHOULD, "A changed list is told to those who asked for it."),
    ),
    Tool=(tested("schema.1", MUST, "inputSchema is a JSON Schema object."),),
    Tool__Names=(
        tested("names.1", SHOULD, "Names have 1 to 128 characters; others are refused at registration."),
        tested("names.2", SHOULD, "Names are told apart by case."),
        tested(
            "names.3",
            SHOULD,
            "Names are made of ASCII letters, digits, '_', '-' and '.'; others are refused at registration.",
        ),
        tested("names.4", SHOULD_NOT, "Names have no spaces, commas or other characters."),
        tested("names.5", SHOULD, "Names are unique in a server."),
        tested(
            "names.6",
            SHOULD,
            "Where two providers offer the same name, it is told, and does not win in silence.",
        ),
    ),
    **{
        "x-mcp-header": (
            tested(
                "header.1", MUST, "What the transport's page says of x-mcp-header is held at registration."
            ),
            author(
                "header.2",
                SHOULD_NOT,
                "Secrets are not mirrored into headers.",
                "Which parameters are mirrored is up to who writes the tool.",
            ),
        ),
    },
    Embedded__Resources=(
        author(
            "embedded.1",
            SHOULD,
            "A server whose tools embed resources has the resources capability.",
            "Who embeds resources offers them as resources too; the capability is then declared.",
        ),
    ),
    Structured__Content=(tested("structured.1", SHOULD, "Structured content is also there as text."),),
    Output__Schema=(
        tested("output.1", MUST, "Structured content matches the output schema; what does not is not sent."),
    ),
    Error__Handling=(
        tested(
            "errors.1",
            MUST,
            "Unknown tools and malformed requests are protocol errors; wrong arguments and a "
            "tool's own failures are results with isError.",
        ),
    ),
    Security__Considerations=(
        tested("security.1", MUST, "All tool inputs are validated."),
        tested(
            "security.2", MUST, "Access is controlled: what a caller may not use it neither sees nor reaches."
        ),
        later("security.3", MUST, "Tool calls are rate limited.", RATE),
        tested(
            "security.4",
            MUST,
            "Tool outputs are cleaned: internal errors tell nothing, and results are bounded.",
        ),
    ),
)

RESOURCES = page(
    "server/resources",
    Capabilities=(
        tested("capability.1", MUST, "A server with resources declares the resources capability."),
        tested("list.1", MUST, "resources/list gives the resources that the caller may read now."),
        tested("list.2", MUST_NOT, "The list does not depend on the connection, or on earlier requests."),
    ),
    List__Changed__Notification=(
        tested("changed.1", SHOULD, "A changed list is told to those who asked for it."),
    ),
    **{
        "https://": (
            author(
                "https.1",
                SHOULD,
                "https: URIs are for what clients can fetch themselves; else another scheme.",
                "The author chooses URIs.",
            ),
        ),
    },
    Custom__URI__Schemes=(
        tested(
            "schemes.1", MUST, "URIs have a scheme as RFC 3986 has it; others are refused at registration."
        ),
    ),
    Error__Handling=(
        tested("errors.1", MUST, "A resource that does not exist gets -32602."),
        tested("errors.2", SHOULD, "Internal errors get -32603."),
        tested("errors.3", MUST_NOT, "A resource that does not exist never reads as empty contents."),
    ),
    Security__Considerations=(
        tested("security.1", MUST, "Resource URIs are validated."),
        tested("security.2", SHOULD, "Access to resources can be controlled."),
        tested("security.3", MUST, "Binary data is Base64."),
        tested("security.4", SHOULD, "Permission is checked before a resource is read."),
        elsewhere(
            "security.5",
            MUST,
            "File paths are cleaned of traversal: no variable of a template ever holds what climbs.",
            "test_protocol_templates.Matching.test_dots_do_not_climb",
            "test_protocol_templates.Matching.test_a_simple_variable_never_has_a_slash",
        ),
    ),
)

PROMPTS = page(
    "server/prompts",
    Capabilities=(
        tested("capability.1", MUST, "A server with prompts declares the prompts capability."),
        tested("list.1", MUST, "prompts/list gives the prompts that the caller may use now."),
        tested("list.2", MUST_NOT, "The list does not depend on the connection, or on earlier requests."),
    ),
    List__Changed__Notification=(
        tested("changed.1", SHOULD, "A changed list is told to those who asked for it."),
    ),
    Image__Content=(tested("image.1", MUST, "Image data is Base64, with a MIME type."),),
    Audio__Content=(tested("audio.1", MUST, "Audio data is Base64, with a MIME type."),),
    Embedded__Resources=(
        tested("embedded.1", MUST, "An embedded resource has a URI, a MIME type, and text or Base64 data."),
    ),
    Error__Handling=(
        tested("errors.1", SHOULD, "An unknown prompt gets -32602."),
        tested("errors.2", SHOULD, "A missing required argument gets -32602."),
        tested("errors.3", SHOULD, "An internal error gets -32603."),
    ),
    Implementation__Considerations=(
        tested("arguments.1", SHOULD, "Arguments are validated before a prompt is built."),
        tested(
            "capability.2", SHOULD, "Undeclared capabilities are respected: prompts that ask find out first."
        ),
    ),
    Security=(tested("security.1", MUST, "Prompt inputs and outputs are validated."),),
)

SCHEMA = page(
    "schema",
    Error=(tested("error.1", SHOULD, "An error's message is one concise sentence."),),
    CallToolResult=(
        tested(
            "tool-errors.1", SHOULD, "Errors that a tool comes to are in its result, not protocol errors."
        ),
    ),
    ClientCapabilities=(
        tested("capabilities.1", MUST_NOT, "Capabilities are not inferred from earlier requests."),
    ),
)

GUIDELINES = page(
    "index",
    **{
        "Security and Trust & Safety": (
            author(
                "trust.1",
                SHOULD,
                "Implementors build consent, documentation, access control and privacy into their applications.",
                "This is about whole applications; a server's share is in the pages below.",
            ),
        ),
    },
)

DEPRECATED = page(
    "deprecated",
    introduction=(
        otherwise(
            "new.1",
            SHOULD_NOT,
            "New implementations do not adopt deprecated features: roots, sampling, logging, HTTP+SSE.",
            "All but HTTP+SSE are adopted: clients of this revision still use them, and the conformance suite demands "
            "them. Docstrings call sampling and roots deprecated.",
        ),
    ),
)

TABLE = (*GUIDELINES, *DEPRECATED, *SCHEMA, *DISCOVER, *TOOLS, *RESOURCES, *PROMPTS)
