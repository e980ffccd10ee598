"""Secrets at rest: encrypted with a key that lies beside the database, never in it."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from labwright.api.errors import LabwrightError
from labwright.hub.private_file import write_private


class Vault:
    """Encrypts and decrypts with the key in `key_file` (0600), made at first use."""

    def __init__(self, key_file: Path) -> None:
        if not key_file.exists():
            write_private(key_file, Fernet.generate_key().decode())
        self._cipher = Fernet(key_file.read_bytes())

    def lock(self, secret: str) -> bytes:
        return self._cipher.encrypt(secret.encode())

    def unlock(self, locked: bytes) -> str:
        try:
            return self._cipher.decrypt(locked).decode()
        except InvalidToken:
            raise LabwrightError(
                "A stored credential cannot be decrypted: the key file is not the one it was made with.",
                remedy="Put the data folder's secrets.key back, or add the connection again.",
            ) from None
