"""Signatures of ours: assertions of a client (RFC 7523) and DPoP proofs (RFC 9449). Keys are given, or made here."""

import base64
import hashlib
import json
import secrets
import warnings
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._grants import SigningKey
from erlmcp.client.oauth._urls import without_query

PROOF_ALGORITHM: Final = "ES256"
"""The one algorithm of our proofs. RFC 9449 makes no algorithm mandatory; every server known takes this one."""

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE: Final = 120
_CURVE_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_ALGORITHMS: Final = [
    "ES256",
    "ES384",
    "ES512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "EdDSA",
    "Ed25519",
]
_P256 = ec.SECP256R1()
_SIGNATURE = ec.ECDSA(SHA256())


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def client_assertion(
    key: SigningKey, client_id: str, audience: str, now: float, accepted: tuple[str, ...] | None
) -> str:
    """A JWT by which a client shows who it is (``private_key_jwt``, RFC 7523 section 3).

    Args:
        key: the client's private key.
        client_id: issuer and subject.
        audience: the issuer identifier of the authorization server.
        now: seconds since the epoch.
        accepted: the algorithms that the server takes; None if it does not say.

    Raises:
        AuthorizationError: the key cannot be read, or the server does not take its algorithm.
    """
    try:
        private = _load(key)
        algorithm = key.algorithm or _algorithm_of(private, accepted or ())
        if accepted is not None and algorithm not in accepted:
            raise AuthorizationError(
                f"{audience} does not take client assertions signed with {algorithm}, but {', '.join(accepted)}"
            )
        header = {"alg": algorithm, "typ": "JWT"}
        if key.key_id:
            header["kid"] = key.key_id
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "iat": int(now),
            "exp": int(now) + _ASSERTION_LIFE,
            "jti": secrets.token_urlsafe(16),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the old name of Ed25519 is old
            return jwt.encode(header, claims, private, algorithms=_ALGORITHMS)
    except (JoseError, ValueError, TypeError) as error:
        raise AuthorizationError(f"the client's key cannot sign: {error}") from None


def _load(key: SigningKey) -> RSAKey | ECKey | OKPKey:
    for kind in ("EC", "RSA", "OKP"):
        try:
            private = import_key(key.pem, kind)
        except (JoseError, ValueError, TypeError):
            continue
        if isinstance(private, RSAKey | ECKey | OKPKey) and private.is_private:
            return private
    raise ValueError("expected a private key as PEM: EC, RSA or Ed25519")


def _algorithm_of(key: RSAKey | ECKey | OKPKey, accepted: tuple[str, ...]) -> str:
    if isinstance(key, ECKey):
        return _CURVE_ALGORITHMS.get(key.curve_name, "ES256")
    if isinstance(key, RSAKey):
        return "RS256" if "RS256" in accepted and "PS256" not in accepted else "PS256"
    return "EdDSA" if "EdDSA" in accepted else "Ed25519"  # RFC 9864: the old name where only that is known


class ProofKey:
    """A key pair that tokens are bound to (RFC 9449), and what is signed with it: one proof per request."""

    __slots__ = ("_head", "_key", "thumbprint")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        numbers = key.public_key().public_numbers()
        jwk = {
            "crv": "P-256",
            "kty": "EC",
            "x": base64url(numbers.x.to_bytes(32, "big")),
            "y": base64url(numbers.y.to_bytes(32, "big")),
        }
        canonical = json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()
        self.thumbprint = base64url(hashlib.sha256(canonical).digest())
        header = {"typ": "dpop+jwt", "alg": PROOF_ALGORITHM, "jwk": jwk}
        self._head = base64url(json.dumps(header, separators=(",", ":")).encode()) + "."

    @classmethod
    def make(cls) -> "ProofKey":
        """A new key."""
        return cls(ec.generate_private_key(_P256))

    @classmethod
    def restore(cls, secret: str) -> "ProofKey":
        """The key that `keep` gave. Raises `ValueError` if it is none."""
        return cls(ec.derive_private_key(int(secret, 16), _P256))

    def keep(self) -> str:
        """What the key is restored from: secret."""
        return f"{self._key.private_numbers().private_value:x}"

    def proof(self, method: str, url: str, now: float, *, token: str = "", nonce: str = "") -> bytes:
        """A proof for one request (RFC 9449 section 4.2).

        Args:
            method: the HTTP method.
            url: the whole URL of the request.
            now: seconds since the epoch.
            token: the access token that is sent with it, if one is.
            nonce: what the server demanded last, if it did.
        """
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(12),
            "htm": method,
            "htu": without_query(url),
            "iat": int(now),
        }
        if token:
            claims["ath"] = base64url(hashlib.sha256(token.encode()).digest())
        if nonce:
            claims["nonce"] = nonce
        signed = (self._head + base64url(json.dumps(claims, separators=(",", ":")).encode())).encode()
        r, s = decode_dss_signature(self._key.sign(signed, _SIGNATURE))
        return signed + b"." + base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big")).encode()


def nonce_of(proof: str) -> str:
    """The nonce of a proof of ours; empty if it has none, or if there is no proof."""
    parts = proof.split(".")
    if len(parts) != 3:
        return ""
    claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    return str(claims.get("nonce", ""))
