"""Snapshots of notebooks, outputs and logs by content hash, on any fsspec file system (local directory, S3)."""

from __future__ import annotations

import hashlib
import secrets

import fsspec  # type: ignore[import-untyped]

from labwright.api.errors import DiskFull, NotFound, Unavailable
from labwright.hub import disk


class ArtifactStore:
    """Bytes by their SHA-256. A name, once there, is whole: the bytes are written aside and moved into place."""

    def __init__(self, url: str) -> None:
        self._files, root = fsspec.core.url_to_fs(url)
        self._root = root.rstrip("/")

    def put(self, data: bytes) -> str:
        """Store the bytes; the digest names them from now on. Storing twice keeps one."""
        digest = hashlib.sha256(data).hexdigest()
        place = self._place(digest)
        try:
            if self._files.exists(place) and self._files.size(place) == len(data):
                return digest
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            aside = f"{place}.{secrets.token_hex(4)}.part"
            try:
                self._files.pipe_file(aside, data)
                self._files.mv(aside, place)
            except OSError:
                if self._files.exists(aside):
                    self._files.rm_file(aside)
                raise
        except OSError as error:
            raise (DiskFull() if disk.caused(error) else Unavailable("The artifact store")) from None
        return digest

    def get(self, digest: str) -> bytes:
        try:
            data: bytes = self._files.cat_file(self._place(digest))
        except FileNotFoundError:
            raise NotFound("artifact", digest[:12]) from None
        except OSError:
            raise Unavailable("The artifact store") from None
        return data

    def _place(self, digest: str) -> str:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotFound("artifact", digest[:12])
        return f"{self._root}/sha256/{digest[:2]}/{digest}"
