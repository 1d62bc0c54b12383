# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong. Every error has a code that stays as it is; its words are for people.

Error
    ApiError            the API said no; one class a code, below it
    OperationFailed     an operation ended otherwise than was wanted; code: of the operation's error
    ConnectionFailed    OFFLINE: the API is not there, or went away in the middle
    DeadlineExceeded    DEADLINE: no answer, or no end, in the time given; a TimeoutError too
    BadAnswer           BAD_ANSWER: what came is not what the API's contract has
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from hvpatch.documents import Operation


class Error(Exception):
    """All errors of this package.

    code: upper case, stable. tries: how often a request was sent before this was raised.
    """

    code = 'INTERNAL'
    tries = 1


class ConnectionFailed(Error):
    """The API cannot be reached, or the connection broke."""

    code = 'OFFLINE'


class DeadlineExceeded(Error, TimeoutError):
    """The time that the caller gave is over. What was asked for may still happen."""

    code = 'DEADLINE'


class BadAnswer(Error):
    """The answer is not one of this API: another server, a proxy, or a bug."""

    code = 'BAD_ANSWER'


class ApiError(Error):
    """The API's problem document (RFC 9457).

    document: as it came, a dict. status: of HTTP, 400 to 599. title, detail: for people.
    operation: the id of the operation that is in the way, or None. oldest: with GONE the lowest
    number that since may have, or None. retry_after: seconds, or None.
    """

    classes: ClassVar[dict[str, type[ApiError]]] = {}

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        ApiError.classes[cls.code] = cls

    def __init__(self, document: dict[str, Any], retry_after: float | None = None) -> None:
        self.document = document
        self.code = str(document.get('code', 'INTERNAL'))
        self.status = int(document.get('status', 500))
        self.title = str(document.get('title', ''))
        self.detail = str(document.get('detail', ''))
        self.operation: str | None = document.get('operation')
        self.oldest: int | None = document.get('oldest')
        self.retry_after = retry_after
        super().__init__(f'{self.code}: {self.detail or self.title}')

    @classmethod
    def of(cls, document: dict[str, Any], retry_after: float | None = None) -> ApiError:
        """The error of the document's code; ApiError itself for one that is not known here."""
        return cls.classes.get(str(document.get('code')), ApiError)(document, retry_after)


# Nothing was touched.

class InvalidArgument(ApiError):
    """The request is not one that can be."""
    code = 'INVALID_ARGUMENT'


class Unsupported(ApiError):
    """This kernel, VM or patch cannot be dealt with."""
    code = 'UNSUPPORTED'


class PermissionRefused(ApiError):
    """Policy or the host's permissions forbid it, such as a patch that is not signed."""
    code = 'PERMISSION'


class BadData(ApiError):
    """The patch, or what the guest holds, is broken."""
    code = 'BAD_DATA'


class Fault(ApiError):
    """Memory of the guest could not be read."""
    code = 'FAULT'


class NotFound(ApiError):
    """There is no such thing, or none that the caller may see."""
    code = 'NOT_FOUND'


class Ambiguous(ApiError):
    """There is more than one."""
    code = 'AMBIGUOUS'


# Retry later.

class Busy(ApiError):
    """Tasks, or another operation (see operation), are in the way."""
    code = 'BUSY'


class TimedOut(ApiError):
    """The daemon was too slow; whether it did what was asked is not known."""
    code = 'TIMED_OUT'


class TooMany(ApiError):
    """Too many operations, connections or readers; see retry_after."""
    code = 'TOO_MANY'


class Unavailable(ApiError):
    """hvpatchd is away or not ready; see retry_after."""
    code = 'UNAVAILABLE'


# Refused.

class Unreliable(ApiError):
    """A stack could not be proven, so nothing was done."""
    code = 'UNRELIABLE'


class Conflict(ApiError):
    """It does not go with what is there; a cancel that came after the switch."""
    code = 'CONFLICT'


class Tampered(ApiError):
    """The guest changed what hvpatch left in it."""
    code = 'TAMPERED'


class Unauthenticated(ApiError):
    """Who asks is not known."""
    code = 'UNAUTHENTICATED'


class Forbidden(ApiError):
    """No role of the caller's allows it."""
    code = 'FORBIDDEN'


class IdempotencyConflict(ApiError):
    """The idempotency key was used with another request."""
    code = 'IDEMPOTENCY'


class TooLarge(ApiError):
    """The body is larger than the API takes."""
    code = 'TOO_LARGE'


class Gone(ApiError):
    """Events were missed: read the state anew, and follow from there."""
    code = 'GONE'


# It happened, but not well.

class VmGone(ApiError):
    """The VM ended."""
    code = 'VM_GONE'


class Undone(ApiError):
    """It failed, and the old code is proven back."""
    code = 'UNDONE'


class Inconsistent(ApiError):
    """An operator is needed."""
    code = 'INCONSISTENT'


class Internal(ApiError):
    """A bug of the daemon's."""
    code = 'INTERNAL'


class OperationFailed(Error):
    """An operation has ended, and not well. operation: as it ended.

    code: of its error, as BUSY; for one that was cancelled, CANCELLED; for a check that said no
    without an error, UNSUPPORTED.
    """

    def __init__(self, operation: Operation, code: str, detail: str) -> None:
        self.operation = operation
        self.code = code
        super().__init__(f'{operation.verb} on {operation.domain_name}: {operation.state}: '
                         f'{code}: {detail}')
