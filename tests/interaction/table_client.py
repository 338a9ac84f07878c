"""What client/elicitation, sampling and roots demand of a server."""

from tests.interaction.model import MUST, MUST_NOT, SHOULD, SHOULD_NOT, author, page, tested

CONTENT = "The handler writes the question; the server cannot know what is sensitive in it."
OUT_OF_BAND = (
    "What happens behind the URL is the author's: the server passes the URL on and learns of consent alone."
)

ELICITATION = page(
    "client/elicitation",
    User__Interaction__Model=(
        author("sensitive.1", MUST_NOT, "Forms do not ask for secrets.", CONTENT),
        author(
            "sensitive.2",
            MUST,
            "Secrets are asked for by URL.",
            f"{CONTENT} Context.elicit_url is there for it.",
        ),
    ),
    Capabilities=(tested("modes.1", MUST_NOT, "A mode that the client does not support is not used."),),
    Elicitation__Requests=(
        tested("requests.1", MUST, "Every elicitation has its message, and a mode that fits."),
    ),
    Form__Mode__Elicitation__Requests=(
        tested("forms.1", MUST, "A form says mode form or none, and has a requestedSchema."),
    ),
    URL__Mode__Elicitation__Requests=(
        tested("urls.1", MUST, "A URL elicitation says mode url, a message and the URL."),
        author("urls.2", MUST, "The URL is valid.", "The author writes it; it is passed on as it is."),
    ),
    Statefulness=(
        tested("state.1", MUST, "State of an elicitation belongs to one user."),
        tested("state.2", MUST, "It is out of reach of others."),
        author(
            "state.3",
            MUST,
            "A remote user is who the credentials of MCP authorization say.",
            "Handlers get Context.principal from authentication, whose issue is open; nothing else is taken for it.",
        ),
    ),
    URL__Mode__Elicitation__for__OAuth__Flows=(
        author(
            "oauth.1", MUST_NOT, "URL elicitation does not authorize users of the server itself.", OUT_OF_BAND
        ),
    ),
    Understanding__the__Distinction=(
        author("oauth.2", MUST_NOT, "Third-party credentials do not pass through the client.", OUT_OF_BAND),
        author("oauth.3", MUST_NOT, "The client's credentials are not used for third parties.", OUT_OF_BAND),
        author("oauth.4", MUST, "The user authorizes the server directly.", OUT_OF_BAND),
        author("oauth.5", MUST_NOT, "Credentials from such a flow are not sent to the client.", OUT_OF_BAND),
    ),
    Error__Handling=(
        tested("outcomes.1", SHOULD_NOT, "Success is not assumed."),
        tested("outcomes.2", MUST, "Declining, cancelling and a client's failure are all met."),
    ),
    Security__Considerations=(
        tested("binding.1", MUST, "An elicitation is bound to the client's and user's identity."),
    ),
    Safe__URL__Handling=(
        author("safe.1", MUST_NOT, "URLs hold nothing sensitive about the user.", OUT_OF_BAND),
        author("safe.2", MUST_NOT, "URLs are not authenticated beforehand.", OUT_OF_BAND),
        author("safe.3", SHOULD_NOT, "Forms have no URLs to click in their fields.", CONTENT),
        author("safe.4", SHOULD, "URLs are HTTPS.", OUT_OF_BAND),
    ),
    Identifying__the__User=(
        tested("identity.1", MUST_NOT, "A user's identity is not what the client says of itself."),
    ),
    Form__Mode__Security=(
        author("forms.2", MUST_NOT, "Forms do not ask for secrets.", CONTENT),
        tested("forms.3", SHOULD, "Answers are checked against the schema asked for."),
    ),
    Phishing=(
        author("phishing.1", MUST, "Who opens the URL is verified, and is who began.", OUT_OF_BAND),
        author("phishing.2", MUST, "That verification survives altered URLs.", OUT_OF_BAND),
    ),
)

SAMPLING = page(
    "client/sampling",
    Tools__in__Sampling=(
        tested("tools.1", MUST_NOT, "Sampling with tools is not asked of clients without sampling.tools."),
    ),
    Capabilities=(
        tested("context.1", SHOULD, "includeContext is left out unless the author says otherwise."),
        tested("context.2", SHOULD_NOT, "It is not used with clients without sampling.context."),
    ),
    Tool__Result__Messages=(
        author(
            "results.1",
            MUST,
            "A message with tool results has nothing else.",
            "The author writes the messages.",
        ),
    ),
    Tool__Use__and__Result__Balance=(
        author(
            "results.2", MUST, "Each tool use is followed by its result.", "The author writes the messages."
        ),
    ),
    Messages=(
        tested("messages.1", MUST, "Sampling messages have a role and content."),
        tested("messages.2", SHOULD_NOT, "Messages are not kept from one sampling to the next."),
    ),
    Security__Considerations=(
        tested("security.1", SHOULD, "What the client's model wrote is validated."),
        author(
            "security.2", MUST, "Sensitive data is handled with care.", "What is sampled is the author's."
        ),
        author(
            "security.3",
            MUST,
            "Tool uses that end a sampling get their results.",
            "The author writes the loop.",
        ),
        author("security.4", SHOULD, "Tool loops are limited.", "The author writes the loop."),
    ),
)

ROOTS = page(
    "client/roots",
    Security__Considerations=(
        tested("roots.1", SHOULD, "Roots that are no longer there are met: each call asks anew."),
        author(
            "roots.2", SHOULD, "Work stays within the roots, and paths are checked.", "Handlers do the work."
        ),
    ),
    Implementation__Guidelines=(
        tested("roots.3", SHOULD, "The roots capability is checked before they are asked for."),
        author("roots.4", SHOULD, "Roots are respected, and cached where it fits.", "Handlers do the work."),
    ),
)

TABLE = (*ELICITATION, *SAMPLING, *ROOTS)
