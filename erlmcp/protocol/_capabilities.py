"""What a client declares that it can do, and whether that covers a question."""

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

_Settings = dict[str, Raw]


class ElicitationCapability(Struct, frozen=True):
    """Kinds of elicitation. Declared without any, it means forms (client/elicitation, "Capabilities")."""

    form: _Settings | UnsetType = UNSET
    url: _Settings | UnsetType = UNSET


class SamplingCapability(Struct, frozen=True):
    """Kinds of sampling beyond plain messages."""

    tools: _Settings | UnsetType = UNSET
    context: _Settings | UnsetType = UNSET


class ClientCapabilities(Struct, frozen=True):
    """The capabilities of one request's client; UNSET for those not declared.

    Unknown capabilities are dropped. Revision 2026-07-28, schema ``ClientCapabilities``.
    """

    elicitation: ElicitationCapability | UnsetType = UNSET
    sampling: SamplingCapability | UnsetType = UNSET
    roots: _Settings | UnsetType = UNSET
    extensions: dict[str, _Settings] | UnsetType = UNSET
    experimental: dict[str, _Settings] | UnsetType = UNSET

    def missing_for(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The ``requiredCapabilities`` that this client lacks for a question, or None if it has them all.

        Args:
            question: a request object, ``{"method": ..., "params": ...}``.

        Raises:
            ValueError: the question's method is none that a server may ask.
        """
        method = question["method"]
        params = question.get("params") or {}
        if method == "elicitation/create":
            return self._missing_for_elicitation(params)
        if method == "sampling/createMessage":
            return self._missing_for_sampling(params)
        if method == "roots/list":
            return {"roots": {}} if self.roots is UNSET else None
        raise ValueError(f"no question that a client can be asked: {method!r}")

    def _missing_for_elicitation(self, params: dict[str, Any]) -> dict[str, Any] | None:
        declared = self.elicitation
        if params.get("mode", "form") == "url":
            if declared is UNSET or declared.url is UNSET:
                return {"elicitation": {"url": {}}}
            return None
        if declared is UNSET:
            return {"elicitation": {}}
        if declared.form is UNSET and declared.url is not UNSET:
            return {"elicitation": {"form": {}}}
        return None

    def _missing_for_sampling(self, params: dict[str, Any]) -> dict[str, Any] | None:
        declared = self.sampling
        parts: dict[str, Any] = {}
        if ("tools" in params or "toolChoice" in params) and (declared is UNSET or declared.tools is UNSET):
            parts["tools"] = {}
        wants_context = params.get("includeContext", "none") != "none"
        if wants_context and (declared is UNSET or declared.context is UNSET):
            parts["context"] = {}
        return {"sampling": parts} if parts or declared is UNSET else None


NO_CAPABILITIES = ClientCapabilities()
"""What a client has that declares none."""
