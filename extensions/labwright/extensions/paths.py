"""Which addresses the door opens: pure functions from what a browser asks to what a service is asked."""

from __future__ import annotations

from urllib.parse import unquote

from labwright.api.errors import InvalidRequest

# Sent on to a service. Cookies, Authorization, Origin and whatever else a browser adds stay here.
REQUEST_HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Content-Type",
    "Content-Length",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "Last-Event-ID",
    "Range",
)
# Sent back to the browser. Cookies of a service would land in Lab's own origin.
RESPONSE_HEADERS = (
    "Accept-Ranges",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Expires",
    "Last-Modified",
    "Retry-After",
    "Vary",
)
# What a service answers is data: opened in a tab of its own it runs no script in Lab's origin.
DATA_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"


def safe_path(path: str) -> str:
    """`path` (still percent-coded) as it may be put behind a service's prefix.

    Refuses whatever some decoder on the way could read as a step up or as another path, however often it is coded.
    """
    for segment in path.split("/"):
        decoded = segment
        while (further := unquote(decoded)) != decoded:
            decoded = further
        if decoded in (".", "..") or any(char in decoded for char in "/\\?#") or not printable(decoded):
            raise InvalidRequest("This address is not valid.", remedy="Open it again from the panel that led here.")
    return path


def printable(text: str) -> bool:
    return all(ord(char) >= 32 and ord(char) != 127 for char in text)


def is_interface(path: str) -> bool:
    """Whether a path below mlflow/ is part of MLflow's own pages, which need scripts; anything else may be a user's."""
    return path in ("", "index.html") or path.startswith("static-files/")


def moved(location: str, base: str, prefix: str, ours: str) -> str | None:
    """Where a redirect of the service at `base + prefix` leads below `ours`, or None when it leads elsewhere."""
    host = base.split("://", 1)[-1].split("/", 1)[0]
    for scheme in ("http://", "https://"):
        if location.startswith(scheme + host + "/"):
            location = location[len(scheme + host) :]
    if ".." in unquote(location):
        return None
    if location.startswith(ours + "/"):  # a dashboard that was told its path here
        return location
    return ours + location[len(prefix) :] if location.startswith(prefix + "/") else None
