"""What core and data have in common as HTTP services: errors as problem+json, health, request limits."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labwright.api import __version__
from labwright.api.errors import PROBLEM_TYPE, DiskFull, InternalError, InvalidRequest, LabwrightError, TooLarge
from labwright.hub import disk

log = logging.getLogger("labwright")
# Files that go through to a store without being held here.
STREAMED = re.compile(r"/services/core/mlflow/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/")
MAX_BODY_BYTES = 64 * 1024 * 1024  # a notebook with its outputs; larger is refused before it is parsed

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_service(title: str, prefix: str, lifespan: Lifespan) -> FastAPI:
    """An app whose routes live under `prefix` (/services/core), with OpenAPI at {prefix}/api/v1/openapi.json."""
    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=lifespan,
        openapi_url=f"{prefix}/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(BodyLimit)
    app.add_exception_handler(LabwrightError, on_labwright_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unexpected_error)
    return app


def problem_response(error: LabwrightError) -> Response:
    return JSONResponse(error.problem(), status_code=error.status, media_type=PROBLEM_TYPE)


async def on_labwright_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LabwrightError)
    return problem_response(error)


async def on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Only where and what: `input` may hold a secret.
    found = [{"where": [str(part) for part in item["loc"]], "what": item["msg"]} for item in error.errors()[:20]]
    first = f"{'.'.join(found[0]['where'])}: {found[0]['what']}" if found else "it cannot be read"
    return problem_response(InvalidRequest(f"The request is not valid: {first}.", errors=found))


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {
        "type": "about:blank",
        "title": str(error.detail),
        "status": error.status_code,
        "code": "http-error",
    }
    body["detail"] = f"{error.detail}."
    return JSONResponse(body, status_code=error.status_code, media_type=PROBLEM_TYPE, headers=error.headers)


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    if disk.caused(error):
        return problem_response(DiskFull())
    error_id = secrets.token_hex(4)
    log.exception("error %s in %s %s", error_id, request.method, request.url.path, exc_info=error)
    return problem_response(InternalError(error_id))


class BodyLimit:
    """ASGI middleware that refuses a request body over `MAX_BODY_BYTES` while it arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or STREAMED.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise TooLarge(
                    f"The request is larger than {MAX_BODY_BYTES >> 20} MB.",
                    remedy="Clear large outputs and try again.",
                )
            return message

        await self.app(scope, limited, send)
