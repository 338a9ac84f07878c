"""Sealed tokens: what this server hands to a client and must be able to trust when it comes back.

One key ring serves all purposes; each purpose has its own key, derived once. Keys are passed in; nothing is
stored.

A token is unpadded base64url of: format (1 byte), key id (4), nonce (12), ciphertext and tag. The plaintext
is the expiry in milliseconds since the epoch (8 bytes, big endian) and the payload. The associated data is
the format, the key id and the binding, so a token opens only where its purpose, key and binding are the same.
"""

import base64
import binascii
import hashlib
import math
import os
import struct
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_SIZE: Final = 32
"""Bytes of one key."""
MAX_KEYS: Final = 64
"""How many keys a ring may hold."""

_FORMAT: Final = b"\x01"
_ID_SIZE: Final = 4
_NONCE_SIZE: Final = 12
_TAG_SIZE: Final = 16
_EXPIRY: Final = struct.Struct(">Q")
_HEAD_SIZE: Final = 1 + _ID_SIZE
_OVERHEAD: Final = _HEAD_SIZE + _NONCE_SIZE + _EXPIRY.size + _TAG_SIZE
_MAX_TOKEN: Final = 4 * 1024 * 1024
_MAX_EXPIRY: Final = 2**63


class BadSeal(Exception):  # noqa: N818 - it says what the token has
    """A token is not valid here. It says no more: forged, truncated, foreign and expired look the same."""

    def __init__(self) -> None:
        super().__init__("the token is not valid")


class Sealer:
    """Seals and unseals the tokens of one purpose. Made by `KeyRing.sealer`."""

    __slots__ = ("_ciphers", "_head", "_newest")

    def __init__(self, keys: Sequence[tuple[bytes, bytes]]) -> None:
        self._ciphers = {key_id: ChaCha20Poly1305(key) for key_id, key in reversed(keys)}
        newest = keys[0][0]
        self._head = _FORMAT + newest
        self._newest = self._ciphers[newest]

    def seal(self, payload: bytes, binding: bytes, expires: float) -> str:
        """Make a token, with the newest key.

        Args:
            payload: what `unseal` gives back; encrypted. The token is about 4/3 of it and 55 characters.
            binding: what must be the same when the token comes back, such as the principal; not in the token.
            expires: seconds since the epoch. Kept to the millisecond.

        Raises:
            ValueError: an expiry that is no time, or a payload that makes a token over 4 MiB.
        """
        if not 0 <= expires < _MAX_EXPIRY / 1000:
            raise ValueError(f"no expiry: {expires!r}")
        if len(payload) > _MAX_TOKEN // 4 * 3 - _OVERHEAD:
            raise ValueError(f"{len(payload)} bytes are too many to seal")
        nonce = os.urandom(_NONCE_SIZE)
        plain = _EXPIRY.pack(math.floor(expires * 1000)) + payload
        sealed = self._newest.encrypt(nonce, plain, self._head + binding)
        return base64.urlsafe_b64encode(self._head + nonce + sealed).rstrip(b"=").decode("ascii")

    def unseal(self, token: str, binding: bytes, now: float) -> bytes:
        """Open a token.

        Args:
            token: as `seal` gave it.
            binding: as `seal` was given it.
            now: seconds since the epoch.

        Raises:
            BadSeal: it was altered, cut, made elsewhere, for another purpose or binding, or has expired.
        """
        raw = _decode(token)
        if raw is None or len(raw) < _OVERHEAD or raw[:1] != _FORMAT:
            raise BadSeal
        head = raw[:_HEAD_SIZE]
        cipher = self._ciphers.get(head[1:])
        if cipher is None:
            raise BadSeal
        body = _HEAD_SIZE + _NONCE_SIZE
        try:
            plain = cipher.decrypt(raw[_HEAD_SIZE:body], raw[body:], head + binding)
        except InvalidTag:
            raise BadSeal from None
        (expires,) = _EXPIRY.unpack_from(plain)
        if now * 1000 >= expires:
            raise BadSeal
        return plain[_EXPIRY.size :]


class KeyRing:
    """The sealing keys, newest first: the first seals, all unseal.

    Rotate by putting a new key in front; drop a key when the last token that it sealed has expired.

    Args:
        keys: one to 64 different keys of 32 bytes.
        scope: the part of the server that its tokens are good for; empty for the whole of it (see `within`).

    Raises:
        ValueError: too few or too many keys, one of another size, or the same one twice.
    """

    def __init__(self, keys: Sequence[bytes], scope: str = "") -> None:
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ValueError(f"a key ring has 1 to {MAX_KEYS} keys, not {len(keys)}")
        for position, key in enumerate(keys, 1):
            if len(key) != KEY_SIZE:
                raise ValueError(f"sealing key {position} has {len(key)} bytes, it must have {KEY_SIZE}")
        self._keys = [(_key_id(key), bytes(key)) for key in keys]
        if len({key_id for key_id, _ in self._keys}) != len(keys):
            raise ValueError("the same sealing key is in the ring twice")
        self._scope = scope
        self._sealers: dict[str, Sealer] = {}

    def within(self, scope: str) -> "KeyRing":
        """The ring for a part of the server: what it seals opens nowhere else, not even with the same keys.

        Args:
            scope: the part's name.
        """
        return KeyRing([key for _, key in self._keys], scope)

    def sealer(self, purpose: str) -> Sealer:
        """The sealer for one purpose, such as ``request-state``: always the same object for the same purpose.

        Purposes are constants of the program, never input: each is remembered.
        """
        sealer = self._sealers.get(purpose)
        if sealer is None:
            whole = f"{purpose}\0{self._scope}" if self._scope else purpose
            derived = [(key_id, _derive(key, whole)) for key_id, key in self._keys]
            sealer = self._sealers[purpose] = Sealer(derived)
        return sealer

    @staticmethod
    def generate() -> bytes:
        """A new key."""
        return os.urandom(KEY_SIZE)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"erlmcp key id\0" + key).digest()[:_ID_SIZE]


def _derive(key: bytes, purpose: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) with the purpose as info."""
    info = b"erlmcp seal\0" + purpose.encode()
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=info).derive(key)


def _decode(token: str) -> bytes | None:
    """The bytes of a token in canonical form: one text for one value, so that no other text opens."""
    if not token.isascii() or len(token) > _MAX_TOKEN or "=" in token or "+" in token or "/" in token:
        return None
    text = token.encode("ascii")
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == text else None
