# SPDX-License-Identifier: GPL-2.0-or-later
"""The stream of events, which comes back by itself when its connection breaks."""

from __future__ import annotations

import json
import time
from typing import Iterator

from hvpatch.documents import Event
from hvpatch.errors import BadAnswer, Error, Gone
from hvpatch.requests import Requests, is_worth_another_try, problem, wait_after
from hvpatch.transport import Exchange

MAX_LINE_BYTES = 16 * 1024 * 1024
# The API sends an empty line when it has nothing to say for a while.
SILENCE_SECONDS = 60.0


class EventStream(Iterator[Event]):
    """Events in order, none left out; see Client.events().

    An iterator without an end, and a context manager. The stream is open once this object exists:
    what happens from then on will be seen, so open it first and read the state behind it.
    since: the number of the last event that was seen, None before the first.

    Raises Gone when events were missed: read the state anew and open another stream.
    """

    def __init__(self, requests: Requests, since: int | None, silence: float) -> None:
        self.since = since
        self._requests = requests
        self._silence = silence
        self._exchange: Exchange | None = None
        self._open_again(None)

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> EventStream:
        return self

    def close(self) -> None:
        """Ends the stream. Not for another thread than the one that reads."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _open(self) -> None:
        self.close()
        exchange = Exchange(self._requests.address, self._requests.timeout)
        path = '/v1/events' if self.since is None else f'/v1/events?since={self.since}'
        try:
            status = exchange.send('GET', path, {'Accept': 'application/x-ndjson'}, None)
            if status != 200:
                raise problem(exchange, status, exchange.body())
        except BaseException:
            exchange.close()
            raise
        self._exchange = exchange

    def _open_again(self, broken: Error | None) -> None:
        """Tries for as long as any request is tried; raises what came last."""
        gives_up_at = time.monotonic() + self._requests.retry_seconds
        tries = 0
        while True:
            tries += 1
            try:
                if broken is not None and self.since is None:
                    raise Gone({'code': 'GONE', 'status': 410, 'title': 'Gone', 'detail':
                                f'the stream broke before its first event ({broken})'})
                self._open()
                return
            except Error as error:
                wait = wait_after(error, tries)
                if not is_worth_another_try(error) or time.monotonic() + wait > gives_up_at:
                    raise
            time.sleep(wait)

    def __next__(self) -> Event:
        while self._exchange is not None:
            try:
                self._exchange.until(self._silence)
                line = self._exchange.line(MAX_LINE_BYTES)
                broken: Error | None = None if line.endswith(b'\n') else Error('it ended')
            except Error as error:
                if not is_worth_another_try(error):
                    raise
                broken = error
            if broken is not None:
                self._open_again(broken)
            elif line.strip():
                return self._event(line)
        raise StopIteration

    def _event(self, line: bytes) -> Event:
        try:
            event = Event.of(json.loads(line))
        except ValueError as error:
            raise BadAnswer(f'an event that is no JSON: {error}') from error
        self.since = event.seq
        return event


