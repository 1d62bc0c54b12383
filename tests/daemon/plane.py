# SPDX-License-Identifier: GPL-2.0-or-later
"""A host as a management plane sees it: hvpatchd, hvpatch-apid, and the Python client.

    with Plane(uri=URI, worker=real_worker()) as plane:
        patch, _ = plane.client.upload(path)
        operation = plane.client.apply(uuid, patch)
        plane.end(operation)
        plane.story.operations(operation.id)
"""

import os
import re
import sys
import threading
from collections import Counter

from core import HERE, Bus, Core, build_file, until
from frontend import FrontEnd

sys.path.append(os.path.join(HERE, '..', 'vm'))
sys.path.append(os.path.join(HERE, '..', '..', 'python'))

# pylint: disable=wrong-import-position
import hvpatch
from tap import Skip

END_SECONDS = 180.0
POLL_SECONDS = 0.1
SERIES = re.compile(r'(\w+)(?:\{(.*)\})? ([0-9.e+-]+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def built(variable, *names):
    """The program that $VARIABLE names, or the one of the build."""
    path = os.environ.get(variable) or build_file('hv-patcher', *names)
    if not os.path.exists(path):
        raise Skip(f'{names[-1]} is not built')
    return path


def real_worker():
    return built('HVPATCH_WORKER', 'hvpatch-worker')


def fifo_enter(guest):
    """A task that sleeps in wait_for_partner, or in what replaces it."""
    guest.check('rm -f /tmp/fifo; mkfifo /tmp/fifo; cat /tmp/fifo >/dev/null 2>&1 & '
                'echo $! > /tmp/pid')
    guest.wait_in(int(guest.check('cat /tmp/pid')), 'wait_for_partner')


def fifo_leave(guest):
    guest.check('echo > /tmp/fifo; rm /tmp/fifo')
    guest.wait_gone('$(cat /tmp/pid)')


class Story:
    """What the events tell, from the first one on or behind SINCE: read by a thread of its own."""

    def __init__(self, client, since=0):
        self.events = []
        self.error = None
        self._news = threading.Condition()
        self._stream = client.events(since=since)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            for event in self._stream:
                with self._news:
                    self.events.append(event)
                    self._news.notify_all()
        except (hvpatch.Error, OSError, ValueError) as error:
            with self._news:
                self.error = error
                self._news.notify_all()

    def wait(self, matches, what, seconds=END_SECONDS):
        """The first event, of those that were or are to come, that MATCHES."""
        position = 0

        def found_or_broken():
            nonlocal position
            fresh, position = self.events[position:], len(self.events)
            return next(filter(matches, fresh), None) or self.error
        with self._news:
            event = self._news.wait_for(found_or_broken, seconds)
        assert isinstance(event, hvpatch.Event), f'no {what} within {seconds} s: {event}'
        return event

    def wait_state(self, operation, *states):
        """Until an operation is told to be in one of STATES, or to have ended."""
        return self.wait(lambda event: event.id == operation.id and
                         (event.document.state in states or event.document.ended),
                         f'{states} of {operation.verb}').document

    def operations(self, operation_id=None):
        """Operations as they were told, in order."""
        return [event.document for event in self.events if event.type == 'operation' and
                operation_id in (None, event.id)]

    def ended(self):
        return [operation for operation in self.operations() if operation.ended]

    def most_at_work(self):
        """The most operations that were at work at one time."""
        running, most = set(), 0
        for operation in self.operations():
            if operation.ended or operation.state == 'queued':
                running.discard(operation.id)
            else:
                running.add(operation.id)
            most = max(most, len(running))
        return most

    def domain(self, uuid):
        """A domain as it was told last."""
        return [event.document for event in self.events if event.type == 'domain' and
                event.id == uuid][-1]


class Metrics:
    """Numbers as Prometheus reads them."""

    def __init__(self, text):
        self.series = {}
        for line in text.splitlines():
            if not line.startswith('#'):
                name, labels, value = SERIES.fullmatch(line).groups()
                key = name, frozenset(LABEL.findall(labels or ''))
                assert key not in self.series, f'twice: {line}'
                self.series[key] = float(value)

    def value(self, name, **labels):
        return self.series.get((name, frozenset(labels.items())), 0)

    def by(self, name, *labels):
        """The series called NAME, by the values of LABELS."""
        found = Counter()
        for (own, pairs), value in self.series.items():
            if own == name:
                found[tuple(dict(pairs)[label] for label in labels)] += value
        return found


class Plane:
    """hvpatchd, hvpatch-apid and a client of it, on a bus of their own. FRONT: further settings of
    hvpatch-apid; the others are Core's."""

    def __init__(self, front=None, **core):
        self.bus, self._core, self._front = Bus(), core, front or {}
        self.core = self.front = self.client = self.story = None

    def __enter__(self):
        apid = built('HVPATCH_APID', 'apid', 'hvpatch-apid')
        self.bus.__enter__()
        try:
            self.core = Core(self.bus, **self._core).__enter__()
            self.front = FrontEnd(apid, bus_address=self.bus.address, heartbeat=1,
                                  **self._front)
            self.client = hvpatch.Client(self.front.socket_path, timeout=30, retry_seconds=60)
            self.story = Story(self.client)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error):
        try:
            if self.front:
                self.front.close()
        finally:
            if self.core:
                self.core.__exit__(*(error or (None,)))
            self.bus.__exit__(*error)

    def end(self, operation, seconds=END_SECONDS):
        """An operation as it ended; its end has been told by then, too."""
        ended = self.client.wait_for(operation, seconds, check=False)
        self.story.wait(lambda event: event.id == operation.id and event.document.ended,
                        f'event of the end of {operation.verb}', 20)
        return ended

    def wait_domain(self, uuid, matches, what, seconds=END_SECONDS):
        """Until a domain that nobody works at MATCHES."""
        def matching():
            domain = self.client.domain(uuid)
            return domain if not domain.operation and matches(domain) else None
        return until(matching, what, seconds, POLL_SECONDS)

    def patches(self, uuid, *names):
        """Waits until these patches are in force there, and no others, as it was seen last."""
        def matches(domain):
            return domain.patches is not None and \
                sorted(patch.name for patch in domain.patches if patch.verified) == sorted(names)
        return self.wait_domain(uuid, matches, f'{names} in force')

    def metrics(self):
        return Metrics(self.client.metrics())
