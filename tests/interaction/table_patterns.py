"""What basic/patterns demands of a server."""

from tests.interaction.model import MUST, MUST_NOT, SHOULD, author, not_served, page, tested

INDEX = page(
    "basic/patterns/index",
    introduction=(tested("requests.1", MUST_NOT, "The server begins no JSON-RPC request."),),
)

PROGRESS = page(
    "basic/patterns/progress",
    Progress__Flow=(
        tested("flow.1", MUST, "A progress token is a string or an integer; it comes back as it was sent."),
        tested("flow.2", MUST, "Progress grows with each notification."),
        author("flow.3", SHOULD, "The message is for people.", "The handler writes it; it is passed on."),
    ),
    Behavior__Requirements=(
        tested("tokens.1", MUST, "Progress refers to tokens of active requests alone."),
        tested("tokens.2", MUST, "Progress refers to operations in progress alone."),
    ),
    Implementation__Notes=(
        tested("notes.1", SHOULD, "Active tokens are kept track of."),
        tested("notes.2", SHOULD, "A flood of progress is held back."),
        tested("notes.3", MUST, "No progress follows the response."),
    ),
)

CANCELLATION = page(
    "basic/patterns/cancellation",
    introduction=(
        tested(
            "server.1",
            MUST,
            "A subscription that the server ends is told so by notifications/cancelled (on streams: "
            "the schema has it so, and on HTTP the stream itself ends).",
        ),
        tested("server.2", MUST_NOT, "The server sends notifications/cancelled for nothing else."),
    ),
    **{
        "Transport-Specific Cancellation": (
            tested("http.1", MUST, "On HTTP a client that goes away has cancelled its request."),
        ),
    },
    Timeouts=(
        not_served(
            "timeouts.1",
            SHOULD,
            "Requests that are sent have a time limit, however much progress there is.",
            "The server sends no requests. What it receives has a deadline of its own, which no progress moves "
            "(tests.test_server_calls).",
        ),
    ),
    Behavior__Requirements=(
        tested("behaviour.1", MUST, "What the server cancels is a subscriptions/listen."),
        tested("behaviour.2", SHOULD, "Work on a cancelled request stops."),
        tested("behaviour.3", SHOULD, "What a cancelled request held is freed."),
        tested("behaviour.4", SHOULD, "A cancelled request gets no response."),
    ),
    Timing__Considerations=(tested("timing.1", MUST, "A cancellation that comes too late does no harm."),),
    Implementation__Notes=(tested("notes.1", SHOULD, "The reason of a cancellation is logged."),),
    Error__Handling=(
        tested("errors.1", SHOULD, "The cancellation of an unknown request is ignored."),
        tested("errors.2", SHOULD, "The cancellation of an answered request is ignored."),
        tested("errors.3", SHOULD, "A malformed cancellation is ignored."),
    ),
)

SUBSCRIPTIONS = page(
    "basic/patterns/subscriptions",
    Opening__a__Stream=(
        tested("opening.1", MUST_NOT, "No kind of notification is sent that the client did not ask for."),
    ),
    Acknowledgment=(
        tested(
            "acknowledgment.1", MUST, "The acknowledgment is the first message with the subscription's id."
        ),
        tested("acknowledgment.2", MUST_NOT, "No notification of a subscription precedes it."),
    ),
    Cancellation=(
        tested(
            "ending.1",
            SHOULD,
            "A subscription that the server ends gets its response, then the stream closes.",
        ),
    ),
    Graceful__Closure=(
        tested(
            "closure.1",
            SHOULD,
            "That response says that it is complete, with the subscription's id in _meta.",
        ),
    ),
)

MRTR = page(
    "basic/patterns/mrtr",
    introduction=(
        tested("only.1", MUST, "Questions to the client are asked as input requests, in no other way."),
    ),
    Supported__Requests=(
        tested(
            "supported.1", MUST_NOT, "Input is asked for on tools/call, prompts/get and resources/read alone."
        ),
    ),
    **{
        "Server Requirements (Basic Workflow)": (
            tested("keys.1", MUST, "The keys of input requests are unique within a request."),
            tested("values.1", MUST, "Each is an elicitation, a sampling or a list of roots."),
            tested("state.1", MUST, "requestState is taken as an attacker's."),
            tested("state.2", MUST, "Its integrity is protected."),
            tested("state.3", MUST, "State that fails verification is refused."),
            tested("replay.1", SHOULD, "State is bound to the principal."),
            tested("replay.2", SHOULD, "State expires."),
            tested("replay.3", SHOULD, "State is bound to the request that it belongs to."),
            tested("replay.4", MUST, "State of running work is taken once."),
            tested("either.1", MUST, "An input_required result has input requests or a state."),
            tested("declared.1", MUST_NOT, "Nothing is asked that the client did not declare."),
            tested("assume.1", MUST_NOT, "The server assumes neither answers nor a retry."),
        ),
    },
    Error__Handling=(
        tested("responses.1", SHOULD, "Input responses are checked: form and content."),
        tested("responses.2", SHOULD, "Malformed ones get a JSON-RPC error."),
        tested("responses.3", SHOULD, "Unexpected ones are ignored."),
        tested("responses.4", SHOULD, "Missing ones are asked for again."),
    ),
    Security__Considerations=(tested("security.1", MUST, "State is verified before it is used."),),
)

TABLE = (*INDEX, *PROGRESS, *CANCELLATION, *SUBSCRIPTIONS, *MRTR)
