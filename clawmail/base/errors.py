"""The one error family of the use-cases.

``core`` raises these and nothing else on purpose. Each entrance translates them in exactly one place: the SMTP door to
a reply, an API dialect to its error body. ``message`` is public: it may be shown to the caller and therefore never
holds a secret, an SQL text or another tenant's data. ``retryable`` says whether the same call may succeed later.
"""

from __future__ import annotations


class ClawmailError(Exception):
    """Something the caller can be told about."""

    #: snake_case word that API errors carry as ``code``.
    code = "error"
    #: whether the same request may succeed later without a change.
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class Invalid(ClawmailError):
    """The input is wrong; the message names the field and what was expected (HTTP 400)."""

    code = "invalid"


class Unauthenticated(ClawmailError):
    """No key, a wrong key, a revoked key, or a key of the wrong kind (HTTP 401)."""

    code = "unauthenticated"


class Forbidden(ClawmailError):
    """The key is good but does not open this door (HTTP 403)."""

    code = "forbidden"


class NotFound(ClawmailError):
    """No such thing among what the caller owns (HTTP 404)."""

    code = "not_found"


class Conflict(ClawmailError):
    """The state of things forbids it now (HTTP 409)."""

    code = "conflict"


class Gone(ClawmailError):
    """It was there and has expired (HTTP 410)."""

    code = "gone"


class TooLarge(ClawmailError):
    """The input is over a size limit (HTTP 413, SMTP 552 5.3.4)."""

    code = "too_large"


class Unprocessable(ClawmailError):
    """Well formed, but contradicts an earlier request (HTTP 422)."""

    code = "unprocessable"


class RateLimited(ClawmailError):
    """Too many requests; ``retry_after`` is in seconds (HTTP 429)."""

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(ClawmailError):
    """The mailbox is full (HTTP 400, SMTP 552 5.2.2)."""

    code = "quota_exceeded"


class StoreUnwell(ClawmailError):
    """PostgreSQL is down, read-only or restarting (HTTP 503, SMTP 451 4.3.0)."""

    code = "store_unavailable"
    retryable = True
    #: PostgreSQL itself said no, so nothing of what was asked is done; else no answer came, and it may be.
    answered = False


class StoreInDoubt(StoreUnwell):
    """Away in the middle of a commit, and for so long that what became of it is not known (HTTP 503, SMTP 451 4.3.0).

    The caller has to try again, and what he brings may then be there twice. After any other error it is not.
    """


class StoreFull(StoreUnwell):
    """No room left on the store's disk (HTTP 503, SMTP 452 4.3.1)."""

    code = "store_full"
