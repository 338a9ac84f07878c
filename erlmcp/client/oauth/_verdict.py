"""What a refusal (401, 403) means, as one table: send again, get another token, ask for more, give up. Pure."""

import enum
from dataclasses import dataclass
from typing import Final

from erlmcp.client.oauth._challenge import Challenge

YOUNG: Final = 10.0
"""Seconds within which a token that is refused was not worth getting: another would be refused too."""


class Verdict(enum.Enum):
    """What to do about a refusal."""

    NOT_OURS = "it is not about authorization"
    AGAIN = "there is another token or nonce by now: send it again"
    RENEW = "get a token"
    STEP_UP = "get a token with more scopes"
    SCOPES = "the scopes demanded have been asked for, and the token does not have them"
    NONCE = "the nonce that was demanded has been sent, and is demanded again"
    REFUSED = "the token was got a moment ago, and another would be no different"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, and what is known where it came from.

    Attributes:
        status: 401 or 403.
        challenge: the server's; None if it made none that is understood.
        sent: whether the request carried a token.
        stale: whether that is another than the one that is held now, or a new one is on its way.
        bound: whether it carried a DPoP proof.
        new_nonce: whether the answer brought another nonce than that of the proof.
        age: seconds since the token that is held was obtained.
        missing: the scopes demanded that were not asked for yet.
    """

    status: int
    challenge: Challenge | None
    sent: bool
    stale: bool
    bound: bool
    new_nonce: bool
    age: float
    missing: tuple[str, ...]


def judge(refusal: Refusal) -> Verdict:
    """Decide (docs/machines/authorization.md has the table).

    A young token is refused for good only by whoever knows that its server still names the same issuer: see
    `Verdict.REFUSED`, which is therefore for the caller to give.
    """
    error = refusal.challenge.error if refusal.challenge else ""
    if error == "use_dpop_nonce" and refusal.bound:
        return Verdict.AGAIN if refusal.new_nonce else Verdict.NONCE
    if refusal.status == 403 and error != "insufficient_scope":
        return Verdict.NOT_OURS
    if refusal.stale:
        return Verdict.AGAIN
    if refusal.status == 401 and error != "insufficient_scope":
        return Verdict.RENEW
    if not refusal.sent:
        return Verdict.RENEW
    return Verdict.STEP_UP if refusal.missing else Verdict.SCOPES
