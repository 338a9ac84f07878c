"""The catalog's exceptions: what authors raise, what they get at registration, and what gates refuse with."""


class ToolError(Exception):
    """Raise it in a tool: its text becomes an ``isError`` result that the model reads.

    In a prompt, a resource or a completion, the text is the message of the protocol error.
    """


class InputDeclined(ToolError):  # noqa: N818 - the name that authors know
    """The user did not answer a question that the work cannot go on without.

    Attributes:
        action: ``decline`` or ``cancel``.
    """

    def __init__(self, action: str, message: str) -> None:
        super().__init__(message)
        self.action = action


class ResourceNotFound(Exception):  # noqa: N818 - it reads as what it says
    """Raise it in a resource function: there is no such resource (revision 2026-07-28, server/resources: -32602)."""


class InexpressibleHint(TypeError):  # noqa: N818 - it reads as what it says
    """A type hint that no JSON Schema expresses. The message names the function and the parameter."""


class InvalidSchema(ValueError):  # noqa: N818 - it reads as what it says
    """A JSON Schema that cannot be used: not valid in its dialect, too large, or reaching outside itself."""


class UnsupportedDialect(InvalidSchema):
    """A ``$schema`` that names a dialect not known here (revision 2026-07-28, basic, JSON Schema Usage)."""


class NameCollision(ValueError):  # noqa: N818 - it reads as what it says
    """Two backends offer the same name."""


class InvalidArguments(Exception):  # noqa: N818 - the contract's name
    """Arguments that the tool's input schema does not admit; the edge makes an ``isError`` result of it."""
