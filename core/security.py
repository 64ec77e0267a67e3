"""What hangs on SECRET_KEY: tokens, signed links, derived tokens, what is encrypted at rest.

Each use has its own key by HKDF.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jose import JWTError, jwt
from pydantic import SecretStr

from core.errors import Unauthorized

ISSUER = "nano-banana-lab"
AUDIENCE = "nano-banana-lab-api"
ALGORITHM = "HS256"
ACCESS_TOKEN_TYPE = "access"
# python-jose takes a token without an audience or an end for a good one, unless told to miss them.
_REQUIRED_CLAIMS = {f"require_{claim}": True for claim in ("iss", "aud", "sub", "iat", "exp", "jti")}
MAX_KNOWN_TOKENS = 4096
SETUP_TOKEN_FILE = "setup_token"  # in DATA_DIR
_LINK_SIGNATURE_BYTES = 16


class KeyRing:
    """Derives one key a purpose from SECRET_KEY, and the ones of SECRET_KEY_PREVIOUS to verify with."""

    def __init__(self, current: SecretStr, previous: SecretStr | None = None) -> None:
        self._secrets = [current] if previous is None else [current, previous]

    def keys(self, purpose: str) -> list[bytes]:
        """32 bytes each, the current first."""
        return [self._derive(secret, purpose) for secret in self._secrets]

    @staticmethod
    def _derive(secret: SecretStr, purpose: str) -> bytes:
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"{ISSUER}:{purpose}".encode())
        return kdf.derive(secret.get_secret_value().encode())


def load_or_make_secret(path: Path) -> SecretStr:
    """The embedded installation's own SECRET_KEY: made on the first start, readable by its owner alone."""
    if not path.exists():
        draft = _draft(path, secrets.token_urlsafe(48))
        # Processes that start together must agree: the first link wins, and nobody reads a file half written.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return SecretStr(path.read_text(encoding="ascii").strip())


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read; whoever reads it meanwhile finds it whole."""
    _draft(path, text).replace(path)


def _draft(path: Path, text: str) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    return draft


@dataclass(frozen=True)
class AccessClaims:
    """What an access token says. `expires_at` in seconds since 1970."""

    user_id: str
    session_id: str
    role: str
    expires_at: int


class AccessTokens:
    """JWTs: HS256 only, one issuer, one audience, one type (RFC 8725)."""

    def __init__(self, keys: KeyRing, lifetime_seconds: int) -> None:
        # python-jose takes the HMAC key as text or bytes; bytes that look like PEM are refused, so text it is.
        self._keys = [urlsafe_b64encode(key).decode() for key in keys.keys("access-token")]
        self._known: dict[str, AccessClaims] = {}
        self.lifetime_seconds = lifetime_seconds

    def issue(self, user_id: str, session_id: str, role: str, now_seconds: int) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "sid": session_id,
            "role": role,
            "iat": now_seconds,
            "exp": now_seconds + self.lifetime_seconds,
            "jti": secrets.token_urlsafe(12),
            "typ": ACCESS_TOKEN_TYPE,
        }
        return jwt.encode(claims, self._keys[0], algorithm=ALGORITHM)

    def verify(self, token: str) -> AccessClaims:
        """Raises Unauthorized for anything but a live token of ours.

        A token that was verified once stays so until it expires; whether its session still stands is not asked here.
        """
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            if len(self._known) >= MAX_KNOWN_TOKENS:
                self._known.clear()
            self._known[token] = known
        if known.expires_at <= time.time():
            raise Unauthorized("invalid_token")
        return known

    def _verify(self, token: str) -> AccessClaims:
        for key in self._keys:
            try:
                claims = jwt.decode(
                    token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=_REQUIRED_CLAIMS
                )
            except (JWTError, RecursionError):  # a header of nested brackets overflows the JSON parser
                continue
            if claims.get("typ") == ACCESS_TOKEN_TYPE:
                return self._claims(claims)
        raise Unauthorized("invalid_token")

    @staticmethod
    def _claims(claims: dict[str, object]) -> AccessClaims:
        user_id, session_id, role, expires = (claims.get(name) for name in ("sub", "sid", "role", "exp"))
        if not (isinstance(user_id, str) and isinstance(session_id, str) and isinstance(role, str)):
            raise Unauthorized("invalid_token")
        if not isinstance(expires, int):
            raise Unauthorized("invalid_token")
        return AccessClaims(user_id, session_id, role, expires)


class LinkSigner:
    """Signs what a link opens and until when; what is signed for one purpose opens nothing of another."""

    def __init__(self, keys: KeyRing, purpose: str) -> None:
        self._keys = keys.keys(purpose)

    def sign(self, subject: str, expires_at: int) -> str:
        return self._signature(self._keys[0], subject, expires_at)

    def verify(self, subject: str, expires_at: int, signature: str) -> bool:
        given = signature.encode("utf-8", "replace")
        return any(hmac.compare_digest(self._signature(key, subject, expires_at).encode(), given) for key in self._keys)

    @staticmethod
    def _signature(key: bytes, subject: str, expires_at: int) -> str:
        # BLAKE2's own keyed mode (RFC 7693): a page of history needs twenty of them, HMAC takes three times as long.
        return hashlib.blake2b(
            f"{subject}:{expires_at}".encode(), key=key, digest_size=_LINK_SIGNATURE_BYTES
        ).hexdigest()


class RefreshTokens:
    """Refresh tokens whose successor is computed from the token itself.

    Redis keeps only hashes, so nothing in it can be used as a token, and two tabs that refresh with one token get
    the same successor without its being stored.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._key = keys.keys("refresh-token")[0]

    @staticmethod
    def new() -> str:
        return secrets.token_urlsafe(32)

    def successor(self, token: str) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, token.encode(), "sha256")).rstrip(b"=").decode()

    @staticmethod
    def fingerprint(token: str) -> str:
        return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Vault:
    """Encrypts what is kept at rest, such as somebody's API key, and only opens it in the context it was sealed for."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def seal(self, secret: SecretStr, context: str) -> str:
        """`context` names whose it is, so that one who can write to the store cannot give it to another."""
        return self._cipher(context).encrypt(secret.get_secret_value().encode()).decode()

    def open(self, sealed: str, context: str) -> SecretStr | None:
        """None when it was sealed for another context, or with a key that is gone by now."""
        try:
            return SecretStr(self._cipher(context).decrypt(sealed.encode()).decode())
        except InvalidToken:
            return None

    def _cipher(self, context: str) -> MultiFernet:
        return MultiFernet([Fernet(urlsafe_b64encode(key)) for key in self._keys.keys(f"vault:{context}")])


class SetupToken:
    """What makes the first local account an admin: printed by the first start, the same in every process."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys.keys("setup-token")

    def show(self) -> str:
        return self._text(self._keys[0])

    def verify(self, given: str) -> bool:
        attempt = given.strip().encode("utf-8", "replace")
        return any(hmac.compare_digest(self._text(key).encode(), attempt) for key in self._keys)

    @staticmethod
    def _text(key: bytes) -> str:
        return f"setup-{key[:15].hex()}"
