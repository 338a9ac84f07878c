"""Questions that a server may put to a client (client/elicitation, client/sampling, client/roots)."""

from collections.abc import Mapping, Sequence
from typing import Any


class Question:
    """Builders of request objects ``{"method": ..., "params": ...}``; what a backend asks is one of these."""

    @staticmethod
    def elicit_form(message: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the user to fill in a form.

        Args:
            message: what is wanted and why.
            schema: the ``requestedSchema``: an object whose properties are primitive.
        """
        params = {"mode": "form", "message": message, "requestedSchema": dict(schema)}
        return {"method": "elicitation/create", "params": params}

    @staticmethod
    def elicit_url(message: str, url: str) -> dict[str, Any]:
        """Ask the user to visit a URL, for what must not pass through the client."""
        return {"method": "elicitation/create", "params": {"mode": "url", "message": message, "url": url}}

    @staticmethod
    def sample(messages: Sequence[Mapping[str, Any]], max_tokens: int, **options: Any) -> dict[str, Any]:
        """Ask for a completion from the client's model.

        Args:
            messages: ``SamplingMessage`` objects.
            max_tokens: the most tokens to sample.
            **options: further ``CreateMessageRequestParams`` under their names on the wire, such as
                ``systemPrompt`` or ``tools``; None leaves one out.
        """
        params: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "maxTokens": max_tokens,
        }
        params.update((name, value) for name, value in options.items() if value is not None)
        return {"method": "sampling/createMessage", "params": params}

    @staticmethod
    def ping() -> dict[str, Any]:
        """Ask whether the client is there; in the handshake revisions alone (basic/utilities/ping)."""
        return {"method": "ping"}

    @staticmethod
    def list_roots() -> dict[str, Any]:
        """Ask for the directories and files that the client lets the server work on."""
        return {"method": "roots/list"}
