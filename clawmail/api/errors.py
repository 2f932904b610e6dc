"""Errors on the wire: the one translation from what went wrong to a status and ``{"error": text, "code": snake_case}``.

The use-cases raise ``base.errors.ClawmailError`` and know nothing of HTTP. Whatever else comes up here is a fault of
our own: it is logged once, and the caller learns nothing of it but the 500 (RFC 9110 section 15).
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from clawmail.base import errors
from clawmail.base.log import logger

#: error class → HTTP status; the nearest base class decides.
STATUSES: dict[type[errors.ClawmailError], int] = {
    errors.Invalid: 400,
    errors.QuotaExceeded: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.Unprocessable: 422,
    errors.RateLimited: 429,
    errors.StoreUnwell: 503,
    errors.ClawmailError: 500,
}
#: seconds after which a caller should try a store that is unwell again.
STORE_RETRY_SECONDS = 5

JSON_TYPE = "application/json; charset=utf-8"

log = logger("api")


class MethodNotAllowed(errors.ClawmailError):
    """The path is there, but not for this method (HTTP 405); ``allowed`` says which are (RFC 9110 section 15.5.6)."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Method not allowed; this path takes {allowed}")
        self.allowed = allowed


class NotAcceptedYet(errors.ClawmailError):
    """The body did not arrive in time (HTTP 408)."""

    code = "request_timeout"
    retryable = True


STATUSES[MethodNotAllowed] = 405
STATUSES[NotAcceptedYet] = 408


class ErrorBody(msgspec.Struct, frozen=True):
    """What every error answer holds."""

    #: what went wrong, for people.
    error: str
    #: the same as one snake_case word, for programs.
    code: str


_encoder = msgspec.json.Encoder()


def status_of(error: errors.ClawmailError) -> int:
    """The HTTP status of an error of ours."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def headers_of(error: errors.ClawmailError) -> dict[str, str]:
    """What its answer has to carry beside the body."""
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allowed}
    if isinstance(error, errors.Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="clawmail"'}  # RFC 9110 section 11.6.1
    if isinstance(error, errors.RateLimited):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, errors.StoreUnwell):
        return {"Retry-After": str(STORE_RETRY_SECONDS)}
    return {}


def to_response(error: Exception, *, where: str) -> web.Response:
    """The answer to a request that failed; ``where`` (method and route) names the place in the log."""
    if isinstance(error, errors.ClawmailError):
        if isinstance(error, errors.StoreUnwell):
            log.warning("store unwell", where=where, problem=repr(error.__cause__ or error))
        body = ErrorBody(error.message, error.code)
        return _response(status_of(error), body, headers_of(error))
    log.error("internal error", where=where, exc_info=error)
    return _response(500, ErrorBody("Internal server error", "internal_error"), {})


def _response(status: int, body: ErrorBody, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=_encoder.encode(body), headers={"Content-Type": JSON_TYPE, **headers})
