"""``--authorize``: a user who agrees in a browser, from a terminal; tokens that the next run finds again."""

import os
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from zope.interface import implementer

from erlmcp.cli._forms import printable
from erlmcp.client.oauth import (
    LOOPBACK,
    Authorization,
    AuthorizationCode,
    FileStore,
    GuardedFetch,
    LoopbackInteraction,
    Redirected,
    is_loopback,
)
from erlmcp.web import split_url

_PATIENCE: Final = 300.0
"""Seconds that a user has in the browser."""
_YES: Final = frozenset({b"y", b"yes"})


def credentials() -> Path:
    """The file that tokens are kept in: in the user's folder for state (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # What is not absolute is to be ignored, says the specification.
    home = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    return home / "erlmcp" / "credentials.json"


def authorization(
    reactor: Any, url: str, client_id: str, interaction: "InTerminal"
) -> tuple[Authorization, GuardedFetch]:
    """What authorizes the requests to a URL, and what it fetches with, which is to be closed.

    Args:
        reactor: connects, listens and tells the time.
        url: the server.
        client_id: of a client that is registered with the authorization server; empty to register one.
        interaction: brings the user to the browser.

    Raises:
        ValueError: the URL is neither https nor on the loopback, or the file of credentials cannot be used.
    """
    path = credentials()
    try:
        store = FileStore(path)
    except OSError as error:
        raise ValueError(f"{path}, where tokens are kept, cannot be used: {error}") from error
    # A server on this machine may name an authorization server that is on it too; any other server may not.
    fetch = GuardedFetch(reactor, allow=LOOPBACK if is_loopback(split_url(url)[0].host) else ())
    grant = AuthorizationCode(client_id=client_id, client_name="erlmcp")
    return (
        Authorization(url, grant, fetch=fetch, clock=reactor, interaction=interaction, store=store),
        fetch,
    )


class InTerminal:
    """An `erlmcp.client.oauth.Interaction` that shows the whole URL, and opens a browser if the user wants that.

    Args:
        reactor: listens for the browser, reads the terminal and tells the time.
        out: where the user reads.
        terminal: the descriptor of the terminal that the user types at; None if there is none, so that nobody is asked.
        visit: opens a URL in a browser. It runs in a thread, for some browsers are programs of the terminal.
        hold: called when the user has to be left alone with the terminal.
        resume: called when that is over.
    """

    def __init__(
        self,
        reactor: Any,
        out: TextIO,
        terminal: int | None,
        *,
        visit: Callable[[str], object] = webbrowser.open,
        hold: Callable[[], None] = lambda: None,
        resume: Callable[[], None] = lambda: None,
    ) -> None:
        self._loopback = LoopbackInteraction(reactor, self._show, timeout=_PATIENCE)
        self._reactor = reactor
        self._out = out
        self._terminal = terminal
        self._visit = visit
        self._hold = hold
        self._resume = resume
        self._line: Line | None = None

    async def prepare(self, preferred: str) -> str:
        """See `Interaction`."""
        return await self._loopback.prepare(preferred)

    async def authorize(self, url: str, redirect_uri: str, state: str) -> Redirected:
        """See `Interaction`."""
        self._hold()
        try:
            return await self._loopback.authorize(url, redirect_uri, state)
        finally:
            self._ask_no_more()
            self._resume()

    def done(self) -> None:
        """See `Interaction`."""
        self._loopback.done()

    def _show(self, url: str) -> None:
        self._tell("The server wants you to agree to this, at this address:")
        self._tell(f"  {printable(url)}")
        if self._terminal is None:
            self._tell(f"Open it in a browser on this machine within {_PATIENCE:.0f} s.")
            return
        self._out.write("Open it in a browser? [y/N] ")
        self._out.flush()
        self._line = Line(self._reactor, self._terminal, lambda said: self._answered(said, url))

    def _answered(self, said: bytes, url: str) -> None:
        self._line = None
        if said.strip().lower() not in _YES:
            self._tell(f"Then open it yourself, in a browser on this machine, within {_PATIENCE:.0f} s.")
            return
        self._tell("Waiting for you to come back.")
        threading.Thread(target=self._visit, args=(url,), daemon=True).start()

    def _ask_no_more(self) -> None:
        line, self._line = self._line, None
        if line is not None:  # the browser was quicker: whoever asks next has the terminal to himself
            line.stop()
            self._tell("")

    def _tell(self, text: str) -> None:
        print(text, file=self._out, flush=True)


@implementer(IReadDescriptor)
class Line:
    """One line that a user types, read by the reactor, so that the question can be taken back.

    Args:
        reactor: says when there is something to read.
        descriptor: the terminal.
        then: gets the line; an empty one if there are no more.
    """

    def __init__(self, reactor: IReactorFDSet, descriptor: int, then: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._then = then
        reactor.addReader(self)

    def stop(self) -> None:
        """Read nothing."""
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """See `IReadDescriptor`."""
        return self._descriptor

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        """See `ILoggingContext`."""
        return "terminal"

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        """A terminal hands over whole lines."""
        self.stop()
        try:
            said = os.read(self._descriptor, 1024)
        except OSError:
            said = b""
        self._then(said)

    def connectionLost(self, reason: object) -> None:
        """See `IReadDescriptor`: the reactor ends."""
