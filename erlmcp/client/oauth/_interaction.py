"""What a user has to do with authorization: go somewhere with a browser, and come back. Interface and values."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Redirected:
    """The parameters with which the browser came back (RFC 6749 section 4.1.2, RFC 9207). None where one is absent."""

    code: str | None = field(default=None, repr=False)
    state: str | None = None
    iss: str | None = None
    error: str | None = None
    error_description: str | None = None


class Interaction(Protocol):
    """Brings a user to the authorization server, and the answer back."""

    async def prepare(self, preferred: str) -> str:
        """Make ready for an answer, and say where it is expected.

        Args:
            preferred: the redirect URI that the client is registered with already; empty if there is none.

        Returns:
            The redirect URI of this round.
        """

    async def authorize(self, url: str, redirect_uri: str, state: str) -> Redirected:
        """Show the URL to the user, and wait for the answer, for a bounded time.

        The state is only given to tell rounds apart; whether it came back right is checked by the caller.

        Raises:
            AuthorizationError: nobody came back in time, or the user cannot be asked.
        """

    def done(self) -> None:
        """The round is over, well or not: release what `prepare` has taken. May be called more than once."""
