"""What basic/index and basic/versioning demand of a server."""

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
    "basic/index",
    introduction=(
        tested("parts.1", MUST, "The base protocol, versioning and the message patterns are all there."),
    ),
    Messages=(tested("messages.1", MUST, "Every message is JSON-RPC 2.0."),),
    Requests=(
        tested("requests.1", MUST, "A request has an id that is a string or an integer; another is refused."),
        tested("requests.2", MUST_NOT, "The id is not null; a null one is refused."),
        tested(
            "requests.3", MUST_NOT, "The id is not that of a request still unanswered; such a one is refused."
        ),
    ),
    Result__Responses=(
        tested("results.1", MUST, "A result response has the id of its request."),
        tested("results.2", MUST, "A result response has a result."),
        tested("results.3", MUST, "A result says its resultType."),
    ),
    ResultType=(
        tested(
            "result-types.1",
            MUST,
            "Only the core's result types are sent, as no extension that adds one is advertised.",
        ),
    ),
    Error__Responses=(
        tested("errors.1", MUST, "An error response has the id of its request, if that could be read."),
        tested("errors.2", MUST, "An error has a code and a message."),
        tested("errors.3", MUST, "Error codes are integers."),
    ),
    Error__Codes=(
        tested("codes.1", MUST_NOT, "No new code is allocated between -32019 and -32000."),
        tested("codes.2", SHOULD_NOT, "No code between -32019 and -32000 is used at all."),
        tested(
            "codes.3", MUST_NOT, "Between -32099 and -32020 only codes that the revision defines are emitted."
        ),
        tested("codes.4", MUST, "The codes that it defines are used with their meanings alone."),
        tested("codes.5", MUST_NOT, "Codes of earlier revisions, such as -32002, are not emitted."),
        tested("codes.6", SHOULD, "Codes for other purposes lie outside of -32768 to -32000."),
        not_served(
            "codes.7",
            MUST_NOT,
            "A receiver gives legacy codes no meaning.",
            "A server receives no responses in this revision.",
        ),
    ),
    Notifications=(
        tested("notifications.1", MUST_NOT, "A notification gets no response."),
        tested("notifications.2", MUST_NOT, "A notification that is sent has no id."),
    ),
    Statelessness=(
        tested("stateless.1", MUST_NOT, "Nothing is taken over from earlier requests on a connection."),
        tested("stateless.2", SHOULD, "Requests of several tasks or conversations are served side by side."),
        tested("stateless.3", SHOULD_NOT, "Related requests need not come on the same connection."),
        tested(
            "stateless.4",
            MUST,
            "State over several requests is named by an identifier that each request carries.",
        ),
    ),
    Auth=(
        later(
            "auth.1",
            SHOULD,
            "HTTP servers conform to the authorization framework.",
            "Authorization has an issue of its own. Until then a listener that others can reach is refused at start, "
            'unless it says auth = "none".',
        ),
        tested("auth.2", SHOULD_NOT, "The stdio transport does not use that framework."),
    ),
    Schema__Dialect=(
        tested("dialects.1", MUST, "JSON Schema 2020-12 is supported."),
        elsewhere(
            "dialects.2",
            SHOULD,
            "The further dialects that are supported are documented.",
            "test_interaction_table.Document.test_names_the_dialects",
        ),
    ),
    Implementation__Requirements=(
        tested("schemas.1", MUST, "A schema without $schema is read as 2020-12."),
        tested("schemas.2", MUST, "A schema is checked and applied as its own dialect has it."),
        tested("schemas.3", MUST, "An unsupported dialect is an error that says so."),
        elsewhere(
            "schemas.4",
            SHOULD,
            "The supported dialects are documented.",
            "test_interaction_table.Document.test_names_the_dialects",
        ),
    ),
    Schema__Validation=(
        tested(
            "valid-schemas.1",
            MUST,
            "Schemas that are offered are valid in their dialect; others are refused at registration.",
        ),
    ),
    **{
        "`$ref` Resolution": (
            elsewhere(
                "references.1",
                MUST_NOT,
                "A $ref into the network is not dereferenced.",
                "test_catalog_schemas.ReferenceTests.test_network",
                "test_catalog_schemas.ReferenceTests.test_file",
            ),
            not_served(
                "references.2",
                MUST,
                "A mode that fetches schemas is off by default, and guarded.",
                "There is no such mode.",
            ),
            tested(
                "references.3", SHOULD, "A schema with an external $ref is refused, not taken as permissive."
            ),
        ),
        "Composition-Keyword Resource Use": (
            tested("bounds.1", SHOULD, "Schemas are bounded in depth and in the number of their parts."),
        ),
        "`_meta`": (
            tested(
                "meta.1",
                MUST_NOT,
                "Nothing is assumed about values at reserved keys: unknown ones are left alone.",
            ),
            tested("meta.2", MUST, "Prefixes of keys that are sent are dot-separated labels and a slash."),
            tested("meta.3", MUST, "Labels begin with a letter and end with a letter or digit."),
            tested("meta.4", MUST, "Names in keys begin and end with a letter or digit."),
            author(
                "meta.5",
                SHOULD,
                "Prefixes are reverse DNS names.",
                "All keys of our own are the protocol's; an author's meta= passes as it is.",
            ),
            tested("meta.6", MUST, "A request that lacks a required field is refused with -32602."),
            tested("meta.7", MUST, "On HTTP that has status 400."),
            tested("meta.8", MUST_NOT, "Capabilities that the client did not declare are not relied on."),
            tested(
                "meta.9",
                MUST,
                "A request that needs an undeclared capability gets -32021 with data.requiredCapabilities.",
            ),
            tested("meta.10", MUST, "On HTTP that has status 400."),
            tested("meta.11", SHOULD, "Every result says the server's name and version in _meta."),
            tested("meta.12", SHOULD_NOT, "What a client says of itself changes no behaviour."),
            tested("meta.13", SHOULD_NOT, "What a client says of itself is no base for security decisions."),
            tested("meta.14", MUST, "Every notification of a subscription carries its id in _meta."),
            not_served(
                "meta.15",
                MUST,
                "traceparent, tracestate and baggage that are sent have the W3C's form.",
                "To its clients the server sends none; what is not well formed is not handed on either.",
            ),
        ),
        "`icons`": (
            author(
                "icons.1",
                MUST,
                "Icon URIs are HTTPS or data: URIs, and from a trusted place.",
                "Consumers must check them; which icons there are is up to who writes the provider.",
            ),
        ),
    },
)

VERSIONING = page(
    "basic/versioning",
    Protocol__Version__Negotiation=(
        tested(
            "negotiation.1", MUST, "A version that is not served gets -32022, which lists those that are."
        ),
        tested("negotiation.2", MUST, "server/discover is there."),
    ),
    Extension__Negotiation=(
        tested(
            "extensions.1",
            MUST,
            "Identifiers of advertised extensions have a prefix and are well formed; none is advertised yet.",
        ),
        tested("extensions.2", MUST, "A client's extension that is not supported here changes nothing."),
        not_served(
            "extensions.3", SHOULD, "Extensions document their fallback.", "No extension is served yet."
        ),
    ),
    **{
        "Backward Compatibility with Initialization-Based Versions": (
            tested(
                "handshake.1",
                MUST,
                "An initialize selects the handshake era, of its own connection or session alone.",
            ),
        ),
    },
)

TABLE = (*INDEX, *VERSIONING)
