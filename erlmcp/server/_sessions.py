"""Handshake sessions on HTTP: minted as sealed tokens, found again by them, ended.

A token says all of a session that only lists and calls; of those only the last thousand are remembered. What else is
alive (streams, calls) is kept here while it is; what must outlive the process (log level, subscriptions, that it was
deleted) is in the engine.
"""

import hashlib
from collections.abc import Callable, Collection
from secrets import token_hex

import msgspec
from twisted.internet.interfaces import IReactorTime

from erlmcp.interfaces import (
    ANONYMOUS,
    EngineFull,
    IEngine,
    IExchange,
    KeyChange,
    KeySnapshot,
    NotDurable,
    Principal,
)
from erlmcp.protocol import (
    Greeting,
    LostSession,
    SessionToken,
    SessionTokens,
    errors,
    principal_binding,
)
from erlmcp.server._events import MOST_TOGETHER, Room
from erlmcp.server._session import DEFAULT_LEVEL, Session, is_listening
from erlmcp.timing import Wheel

_HOUR = 3600.0
_SWEEP = 60.0
_ENDED = "ended/"
_STATE = "session/"
_REMEMBERED = 1024
"""How many sessions are remembered by their tokens, so that they need not be read anew for each request."""


class Kept(msgspec.Struct, array_like=True):
    """What of a session outlives the process."""

    level: str
    uris: list[str]


class Sessions:
    """The sessions of one server.

    Args:
        tokens: seals and reads tokens.
        engine: keeps what must outlive the process.
        wheel, clock: for what has been idle too long.
        wall_clock: seconds since the epoch; a token's expiry must mean the same after a restart.
        owner: this worker's name, in ids of streams and questions.
        idle: seconds that streams of a session are kept without a message from its client.
        minted_per_hour: how many sessions a principal may open in an hour.
        most_alive: how many sessions may have streams or calls at once.
        most_kept: how many bytes of events all streams may keep together, for clients that come back.

    Attributes:
        forgotten: what to call with each session that nothing is kept of any more.
        ended: what to call with the numbers of sessions that are over for good, here or by another process's doing.
        leaving: whether another process is to have the streams that belong to no call.
    """

    def __init__(
        self,
        tokens: SessionTokens,
        engine: IEngine,
        wheel: Wheel,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        *,
        owner: str,
        idle: float = 1_800.0,
        minted_per_hour: int = 10_000,
        most_alive: int = 50_000,
        most_kept: int = MOST_TOGETHER,
    ) -> None:
        self.owner = owner
        self._tokens = tokens
        self._engine = engine
        self._wheel = wheel
        self._clock = clock
        self._wall_clock = wall_clock
        self._idle = idle
        self._minted_per_hour = minted_per_hour
        self._most_alive = most_alive
        self._remembered: dict[bytes, tuple[Principal, Session]] = {}
        self._alive: dict[str, Session] = {}
        self._sweeping = False
        self._room = Room(most_kept)
        self.forgotten: Callable[[Session], None] = lambda _session: None
        self.ended: Callable[[Collection[str]], None] = lambda _numbers: None
        self.leaving = False
        self._unfollow: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._alive)

    @property
    def owing(self) -> bool:
        """Whether an answer waits for its client to come back for it."""
        return any(session.owed for session in self._alive.values())

    def follow(
        self, ended: Callable[[Session], None], changed: Callable[[Session, str, list[str]], None]
    ) -> None:
        """Hear of what other processes do to sessions that are known here.

        Args:
            ended: called with a session that has been ended.
            changed: called with a session, its log level and the resources that it subscribes to.
        """

        def heard_end(news: KeyChange | KeySnapshot) -> None:
            if isinstance(news, KeyChange):
                keys: Collection[str] = () if news.value is None else (news.key,)
            else:
                keys = news.entries
            numbers = {key.removeprefix(_ENDED) for key in keys}
            for number in numbers & self._alive.keys():
                ended(self._alive[number])
            # Also those of which nothing is alive here: a backend may know them.
            self.ended(numbers)

        def heard_change(news: KeyChange | KeySnapshot) -> None:
            if not isinstance(news, KeyChange):
                return
            number = news.key.removeprefix(_STATE)
            kept = Kept(DEFAULT_LEVEL, []) if news.value is None else _read(news.value)
            for session in self._known(number):
                if session.log_level != kept.level or session.uris != set(kept.uris):
                    changed(session, kept.level, kept.uris)

        self._unfollow = [
            self._engine.watch(_ENDED, heard_end),
            self._engine.watch(_STATE, heard_change),
        ]

    def give_stream(self, number: str, name: str, after: int) -> tuple[Session | None, list[bytes]]:
        """Give a stream that belongs to no call away: its session, and what was sent on it after an event."""
        session = self._alive.get(number)
        stream = None if session is None else session.streams.get(name)
        if session is None or stream is None or not is_listening(name):
            return None, []
        rest = stream.after(after)
        session.drop(stream)
        self.let_go(session)
        return session, rest

    def _known(self, number: str) -> list[Session]:
        known = {id(one): one for _, one in self._remembered.values() if one.number == number}
        alive = self._alive.get(number)
        if alive is not None:
            known[id(alive)] = alive
        return list(known.values())

    def on_stream(self, greeting: Greeting, wire: IExchange) -> Session:
        """A session that is a connection."""
        return Session(
            number=token_hex(16),
            owner=self.owner,
            revision=greeting.revision,
            capabilities=greeting.capabilities,
            client=greeting.client,
            expires=float("inf"),
            room=self._room,
            wire=wire,
        )

    async def mint(self, greeting: Greeting, principal: Principal, host: str = "") -> str:
        """Open a session; gives its id, which is its token.

        Args:
            greeting: what ``initialize`` said.
            principal: whose it is.
            host: the address that it is opened from. Callers whom nobody knows are told apart by it, so that one of
                them cannot use up what all may open.

        Raises:
            McpError: the principal has opened too many in this hour, or there is no room to count them.
        """
        binding = principal_binding(principal.kind, principal.id)
        caller = binding + b"\0" + host.encode() if principal.kind == ANONYMOUS.kind else binding
        whose = hashlib.sha256(caller).hexdigest()
        rate = self._minted_per_hour / _HOUR
        try:
            granted = await self._engine.take(f"sessions/{whose}", 1, rate=rate, burst=self._minted_per_hour)
        except EngineFull:
            raise errors.overloaded("too many callers open sessions just now; try again later") from None
        if not granted.granted:
            raise errors.rate_limited(
                f"{self._minted_per_hour} sessions were opened within the hour, which is the most for one caller",
                granted.retry_after,
                {"rule": "sessions"},
            )
        text, _ = self._tokens.mint(greeting, self.owner, binding, self._wall_clock())
        return text

    def find(self, text: bytes, principal: Principal) -> Session:
        """The session of a token.

        Raises:
            LostSession: it is none of ours or another principal's, has expired or was deleted.
        """
        now = self._wall_clock()
        known = self._remembered.get(text)
        if known is not None and known[0] == principal and now < known[1].expires:
            session = known[1]
        else:
            token = self._tokens.read(text, principal_binding(principal.kind, principal.id), now)
            session = self._alive.get(token.id) or self._restore(token)
            if len(self._remembered) >= _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[text] = (principal, session)
        if self._engine.peek(session.tombstone) is not None:
            self._remembered.pop(text, None)
            raise LostSession
        session.used = self._clock.seconds()
        return session

    def unfollow(self) -> None:
        """Hear of nothing more; the process ends."""
        for end in self._unfollow:
            end()

    def keep(self, session: Session) -> bool:
        """Keep what is alive of a session in this process, as long as it is used; false if there are too many."""
        if session.number in self._alive:
            return True
        if len(self._alive) >= self._most_alive:
            return False
        self._alive[session.number] = session
        if not self._sweeping:
            self._sweeping = True
            self._wheel.after(min(_SWEEP, self._idle), self._sweep)
        return True

    def let_go(self, session: Session) -> None:
        """Something of a session has ended: keep nothing of it that has nothing left."""
        if not session.alive and session.wire is None:
            self.forget(session)

    async def store(self, session: Session) -> None:
        """Let the log level and the subscriptions of a session outlive the process.

        Raises:
            McpError: there is no room to keep them.
        """
        if session.wire is not None:
            return
        key = _STATE + session.number
        if session.log_level == DEFAULT_LEVEL and not session.uris:
            await self._engine.delete(key)
            return
        await self._put(key, msgspec.json.encode(Kept(session.log_level, sorted(session.uris))), session)

    async def end(self, session: Session) -> None:
        """End a session for good, in every process and after every restart.

        Raises:
            McpError: there is no room to remember that it has ended.
        """
        await self._put(session.tombstone, b"", session)
        session.end()
        self.forget(session)
        self.ended((session.number,))
        await self._engine.delete(_STATE + session.number)

    async def _put(self, key: str, value: bytes, session: Session) -> None:
        try:
            await self._engine.put(key, value, expires=session.expires, durable=True)
        except EngineFull:
            raise errors.overloaded("there is no room to keep more of sessions; try again later") from None
        except NotDurable:
            # It holds until a restart. The engine has said in the log why, and tries again by itself.
            raise errors.overloaded(
                "what is kept of sessions cannot be written now; try again later"
            ) from None

    def forget(self, session: Session) -> None:
        """Keep nothing of it in this process."""
        session.forget_streams()
        self._alive.pop(session.number, None)
        self.forgotten(session)

    def close(self) -> None:
        """The server ends: end the streams that belong to no call; the sessions live on."""
        self.leaving = True
        for session in list(self._alive.values()):
            session.close()

    def _restore(self, token: SessionToken) -> Session:
        session = Session(
            number=token.id,
            owner=self.owner,
            revision=token.revision,
            capabilities=token.capabilities,
            client=token.client,
            expires=token.expires,
            room=self._room,
        )
        kept = self._engine.peek(_STATE + token.id)
        if kept is not None:
            state = _read(kept.value)
            session.log_level = state.level
            session.uris.update(state.uris)
        return session

    def _sweep(self) -> None:
        self._sweeping = False
        now = self._clock.seconds()
        for session in list(self._alive.values()):
            if self._wall_clock() >= session.expires:
                session.close()
                self.forget(session)
                self.ended((session.number,))
                continue
            heard = any(stream.exchange is not None for stream in session.streams.values())
            if not (heard or session.calls) and now - session.used >= self._idle:
                self.forget(session)
        if self._alive:
            self._sweeping = True
            self._wheel.after(min(_SWEEP, self._idle), self._sweep)


def _read(value: bytes) -> Kept:
    return msgspec.json.decode(value, type=Kept)
