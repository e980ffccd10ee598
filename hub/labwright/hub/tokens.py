"""Tokens that core signs for runs, runners and clusters, verified offline by every service.

JWT (RFC 7519) signed with Ed25519 (EdDSA, RFC 8037). They live at most 15 minutes and are renewed by the runner, so
that jobs go on while the hub is down. Claims: sub (user), kind, scopes, groups, run, attempt, jti.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labwright.hub.private_file import write_private

ISSUER = AUDIENCE = "labwright"
MAX_SECONDS = 15 * 60
TokenKind = Literal["run", "runner", "cluster"]


@dataclass(frozen=True)
class Claims:
    user: str
    kind: TokenKind
    scopes: tuple[str, ...]
    groups: tuple[str, ...] = ()
    run_id: str | None = None
    attempt: int | None = None
    expires: float = 0.0
    token_id: str = field(default="")


class InvalidToken(Exception):
    """Not signed by core, expired, or not for us."""


def create_signing_key(private_file: Path, public_file: Path) -> None:
    """Write a new key pair unless there is one: private 0600, public 0644."""
    if not private_file.exists():
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(private_file, pem.decode())
    public = load_private_key(private_file).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public_file.write_bytes(pem)
    public_file.chmod(0o644)


def load_private_key(private_file: Path) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(private_file.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


@dataclass(frozen=True)
class Signer:
    """Mints tokens; only core has one."""

    key: Ed25519PrivateKey = field(repr=False)
    now: Callable[[], float] = time.time

    def mint(
        self,
        user: str,
        kind: TokenKind,
        scopes: Sequence[str],
        *,
        groups: Sequence[str] = (),
        run_id: str | None = None,
        attempt: int | None = None,
        seconds: int = MAX_SECONDS,
    ) -> str:
        """A token for `seconds`, at most 15 minutes."""
        now = int(self.now())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "iat": now,
            "exp": now + min(seconds, MAX_SECONDS),
            "jti": secrets.token_urlsafe(12),
            "kind": kind,
            "scopes": list(scopes),
            "groups": list(groups),
        }
        if run_id is not None:
            claims |= {"run": run_id, "attempt": attempt}
        return jwt.encode(claims, self.key, algorithm="EdDSA")


@dataclass(frozen=True)
class Verifier:
    """Checks tokens with the public key alone."""

    public_key_file: Path
    now: Callable[[], float] = time.time

    def verify(self, token: str) -> Claims:
        try:
            claims = jwt.decode(
                token,
                self.public_key_file.read_text(),
                algorithms=["EdDSA"],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "sub", "jti"], "verify_exp": False, "verify_iat": False},
            )
        except (jwt.InvalidTokenError, OSError) as error:
            raise InvalidToken(str(type(error).__name__)) from None
        if claims["exp"] <= self.now():
            raise InvalidToken("expired")
        return Claims(
            user=claims["sub"],
            kind=claims["kind"],
            scopes=tuple(claims["scopes"]),
            groups=tuple(claims["groups"]),
            run_id=claims.get("run"),
            attempt=claims.get("attempt"),
            expires=float(claims["exp"]),
            token_id=claims["jti"],
        )


def looks_signed(token: str) -> bool:
    """Whether a bearer token is one of ours (a JWT) rather than the hub's (opaque)."""
    return token.count(".") == 2
