# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that are tried again where that is safe and may help."""

from __future__ import annotations

import json
import random
import time
from typing import Any, Mapping

from hvpatch.errors import (
    ApiError, BadAnswer, ConnectionFailed, DeadlineExceeded, Error, TimedOut, TooMany, Unavailable)
from hvpatch.transport import Address, Exchange

FIRST_WAIT_SECONDS = 0.2
MAX_WAIT_SECONDS = 10.0
# None of them says that something was done that may not be done twice: all requests of this
# package can be sent again, those that begin something because of their Idempotency-Key.
WORTH_ANOTHER_TRY = (ConnectionFailed, DeadlineExceeded, TimedOut, TooMany, Unavailable)


def problem(exchange: Exchange, status: int, body: bytes) -> Error:
    """The error that an answer is whose status is not one of success."""
    try:
        document = json.loads(body)
        code = document['code']
    except (ValueError, TypeError, KeyError):
        return BadAnswer(f'HTTP {status} without a problem document')
    if not isinstance(code, str):
        return BadAnswer(f'HTTP {status} with a problem document without a code')
    wait = exchange.header('Retry-After') or ''
    return ApiError.of({'status': status, **document}, float(wait) if wait.isdecimal() else None)


def ask_once(address: Address, seconds: float, method: str, path: str,
             headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
    """(status, body) of an answer of success; everything else is raised."""
    with Exchange(address, seconds) as exchange:
        status = exchange.send(method, path, headers, body)
        content = exchange.body()
        if not 200 <= status < 300:
            raise problem(exchange, status, content)
        return status, content


def is_worth_another_try(error: Error) -> bool:
    return isinstance(error, WORTH_ANOTHER_TRY)


def wait_after(error: Error, tries: int) -> float:
    """Seconds to wait behind the TRIES-th try: what the API said, else more and more."""
    wait = getattr(error, 'retry_after', None)
    if wait is None:
        wait = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (tries - 1))
    # Not all clients of a host that was away come back at the same instant.
    return wait * random.uniform(0.75, 1.25)


class Requests:
    """Asks the API, for at most so many seconds a try, and again for as long as retry_seconds."""

    def __init__(self, address: Address, timeout: float, retry_seconds: float) -> None:
        self.address = address
        self.timeout = timeout
        self.retry_seconds = retry_seconds

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None,
            body: bytes | None = None) -> tuple[int, bytes]:
        gives_up_at = time.monotonic() + self.retry_seconds
        tries = 0
        while True:
            tries += 1
            try:
                return ask_once(self.address, self.timeout, method, path, headers or {}, body)
            except Error as error:
                error.tries = tries
                wait = wait_after(error, tries)
                if not is_worth_another_try(error) or time.monotonic() + wait > gives_up_at:
                    raise
            time.sleep(wait)

    def json(self, method: str, path: str, headers: Mapping[str, str] | None = None,
             body: bytes | None = None) -> tuple[int, Any]:
        """As ask(); the body is read as JSON."""
        status, content = self.ask(method, path, headers, body)
        try:
            return status, json.loads(content)
        except ValueError as error:
            raise BadAnswer(f'{method} {path}: no JSON: {error}') from error
