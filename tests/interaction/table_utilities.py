"""What server/utilities demands of a server."""

from tests.interaction.model import MUST, MUST_NOT, SHOULD, author, later, page, tested
from tests.interaction.table_server import RATE

CACHING = page(
    "server/utilities/caching",
    Cacheable__Results=(
        tested(
            "hints.1",
            MUST,
            "Complete results of server/discover, the lists and resources/read have ttlMs and cacheScope; "
            "interim ones have not.",
        ),
    ),
    Cache__Key=(
        tested(
            "retries.1",
            MUST_NOT,
            "What a retry with inputs came to is not to be cached: it says 0 and private.",
        ),
    ),
    **{
        "Time-to-Live (TTL) Field": (tested("ttl.1", MUST, "ttlMs is at least 0."),),
        "Interaction with Pagination": (
            tested("pages.1", MUST, "All pages of a list have the same cacheScope."),
        ),
    },
    Security__Considerations=(
        tested("security.1", MUST, "What depends on the caller is never public."),
        tested("security.2", MUST, "Access is controlled on each primitive, whatever its cacheScope."),
        tested("security.3", MUST_NOT, "cacheScope is not what keeps a primitive from a caller."),
    ),
)

LOGGING = page(
    "server/utilities/logging",
    Capabilities=(tested("capability.1", MUST, "A server that sends log messages declares logging."),),
    **{
        "Per-request log level": (
            tested("level.1", MUST_NOT, "Nothing is logged to a request without a log level."),
            tested(
                "level.2",
                MUST_NOT,
                "Log messages go on the stream of their own request, and on no subscription.",
            ),
        ),
    },
    Error__Handling=(tested("errors.1", SHOULD, "An unknown log level gets -32602."),),
    Implementation__Considerations=(
        tested("rate.1", SHOULD, "A flood of log messages is held back."),
        author(
            "context.1",
            SHOULD,
            "Data has the context; logger names are consistent.",
            "Handlers write the messages.",
        ),
    ),
    Security=(
        author(
            "security.1",
            MUST_NOT,
            "Log messages hold no secrets, personal data or internals.",
            "Handlers write the messages; the server adds none of its own.",
        ),
        tested("security.2", SHOULD, "Access to log messages is controlled: who did not ask gets none."),
        tested("security.3", SHOULD, "Their data is validated: what is no JSON is not sent."),
    ),
)

PAGINATION = page(
    "server/utilities/pagination",
    Implementation__Guidelines=(
        tested("cursors.1", SHOULD, "Cursors are stable: they hold while the list changes."),
        tested("cursors.2", SHOULD, "Invalid cursors are met gracefully."),
    ),
    Error__Handling=(tested("errors.1", SHOULD, "An invalid cursor gets -32602."),),
)

COMPLETION = page(
    "server/utilities/completion",
    Capabilities=(tested("capability.1", MUST, "A server that completes declares completions."),),
    Error__Handling=(
        tested("errors.1", SHOULD, "Without the capability the method is unknown: -32601."),
        tested("errors.2", SHOULD, "An unknown prompt gets -32602."),
        tested("errors.3", SHOULD, "Missing parameters get -32602."),
        tested("errors.4", SHOULD, "An internal error gets -32603."),
    ),
    Implementation__Considerations=(
        author(
            "order.1",
            SHOULD,
            "Suggestions are sorted by relevance, fuzzy where it fits.",
            "Its function sorts; the order is kept.",
        ),
        later("rate.1", SHOULD, "Completion is rate limited.", RATE),
        tested("inputs.1", SHOULD, "Inputs are validated."),
    ),
    Security=(
        tested("security.1", MUST, "All completion inputs are validated."),
        later("security.2", MUST, "Completion is rate limited.", RATE),
        tested("security.3", MUST, "Access to sensitive suggestions is controlled."),
        tested("security.4", MUST, "Completion discloses nothing: unknown and forbidden look the same."),
    ),
)

TABLE = (*CACHING, *LOGGING, *PAGINATION, *COMPLETION)
