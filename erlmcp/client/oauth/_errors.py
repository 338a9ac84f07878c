"""What goes wrong between a client and an authorization server, in words that can be shown: no secret is in them."""


class AuthorizationError(Exception):
    """A request cannot be authorized, and why.

    Attributes:
        code: the error of the authorization server (RFC 6749 section 5.2, ``invalid_grant`` and the like), or of the
            server's challenge; empty where it was found here.
        transient: whether the same may go well soon (the network, a server that was busy). Others are remembered for a
            while, and told again without another attempt.
    """

    def __init__(self, message: str, *, code: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.transient = transient
