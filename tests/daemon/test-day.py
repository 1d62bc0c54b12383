#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A day of a management plane: emulated domains of a real libvirt through hvpatch-apid, hvpatchd
and its workers, with the Python client. HVPATCH_DAY_DOMAINS of them (4; 20 take 6 GiB): one is
busy, one reboots in the middle, one has the wrong kernel, one is shut off, the others are idle.
Events, metrics and the guests have to tell the same story.

The rest up to 500 is a second core with libvirt's test driver and scripted workers: one core has
one libvirt, and that driver's domains are in no other.
"""

import concurrent.futures
import dataclasses
import os
import random
import time
from collections import Counter

from plane import END_SECONDS, Plane, fifo_enter, fifo_leave, real_worker

# pylint: disable=wrong-import-order
from core import until
from guest import assert_invariants
from libvirt import URI, LibvirtGuest, daemon, main, missing, virsh
from tap import Skip, Suite

COUNT = int(os.environ.get('HVPATCH_DAY_DOMAINS', '4'))
FAKE_COUNT = 500
FIRST, SECOND = 'hvp_sleeper', 'hvp_cmdline'
NEW = 'hvpatch was here'
MAX_STOPPED = 2
CONFIG = f'max-stopped={MAX_STOPPED}\nworkers=6\n'
# Of emulated guests on a crowded host; tasks that sleep in the function are let alone.
OPTIONS = {'max_pause': 100, 'prod': False, 'timeout': 60}
BUSY_SECONDS = 4
TRIES = 3
BOOTS_AT_A_TIME = 2
OFF_UUID = '5d1f2b1c-0000-4000-8000-0000000000ff'
OFF = ("<domain type='qemu'><name>off</name><uuid>{}</uuid><memory unit='MiB'>16</memory>"
       "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>")
MODEST = {'smp': 1, 'memory': 256, 'oracle': False}

BEGAN = time.monotonic()

suite = Suite()


@dataclasses.dataclass
class Fleet:
    """Guests by what is the matter with them; other: without anything."""
    busy: LibvirtGuest
    rebooting: LibvirtGuest
    wrong: LibvirtGuest
    others: list

    @property
    def right(self):
        """Those with the right kernel."""
        return [self.busy, self.rebooting, *self.others]

    @property
    def all(self):
        return [*self.right, self.wrong]


def boot(count, guests):
    """A few at a time: all at once they would be no sooner there. Appends them to GUESTS."""
    # The first is of the kernel that the patches are not for.
    waiting = [LibvirtGuest('6.1' if number else '6.12', **MODEST) for number in range(count)]
    with concurrent.futures.ThreadPoolExecutor(BOOTS_AT_A_TIME) as pool:
        guests += waiting
        booted = list(pool.map(LibvirtGuest.__enter__, waiting))
    print(f'# {time.monotonic() - BEGAN:.0f} s: {count} guests', flush=True)
    return Fleet(wrong=booted[0], busy=booted[1], rebooting=booted[2], others=booted[3:])


# --- what guests tell ---

def entered(guest):
    """How often the new code of the first patch ran; None: there is no such patch."""
    status, text = guest.run(f'cat /sys/module/{FIRST}/parameters/entered')
    return int(text) if status == 0 else None


def in_force(guest):
    """Names of the patches whose code the guest runs, by running it."""
    names = []
    before = entered(guest)
    if before is not None:
        fifo_enter(guest)
        fifo_leave(guest)
        if entered(guest) > before:
            names.append(FIRST)
    if guest.check('cat /proc/cmdline') == NEW:
        names.append(SECOND)
    return names


def stops(guest):
    """[start, end) of each time in which the machine stood still, in seconds, by QEMU's clock."""
    guest.qmp.status()
    found, since = [], None
    for event in guest.qmp.events:
        at = event['timestamp']['seconds'] + event['timestamp']['microseconds'] / 1e6
        if event['event'] == 'STOP' and since is None:
            since = at
        elif event['event'] == 'RESUME' and since is not None:
            found.append((since, at))
            since = None
    assert since is None, 'it stands still'
    return found


def most_at_once(spans):
    """The most of SPANS that overlap."""
    turns = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans],
                   key=lambda turn: turn)
    most = now = 0
    for _, change in turns:
        now += change
        most = max(most, now)
    return most


# --- what the plane does ---

def begin(plane, verb, guests, patch, **options):
    """An operation each: (guest, operation)."""
    start = getattr(plane.client, verb)
    return [(guest, start(guest.uuid, patch, **{**OPTIONS, **options})) for guest in guests]


def until_done(plane, verb, guests, patch):
    """Until it is done everywhere; what was in the way only for a moment is tried again."""
    for _ in range(TRIES):
        ends = [(guest, plane.end(operation))
                for guest, operation in begin(plane, verb, guests, patch)]
        for guest, end in ends:
            if not end.succeeded:
                print(f'# again: {verb} on {guest.name}: {end.state}, {end.error}', flush=True)
        guests = [guest for guest, end in ends if not end.succeeded]
        if not guests:
            return
    raise AssertionError(f'{verb}: {ends}')


def reset_in_the_middle(plane, guest, operation):
    """Its tasks are in the way until it reboots: there it ends."""
    seen = plane.story.wait_state(operation, 'waiting')
    assert seen.state == 'waiting', seen
    virsh('reset', guest.name)
    guest.wait_for_boot()


def morning(plane, fleet, patch):
    """The first patch goes to all at once, whatever is the matter with them."""
    fifo_enter(fleet.busy)
    fifo_enter(fleet.rebooting)
    (_, busy), = begin(plane, 'apply', [fleet.busy], patch, timeout=BUSY_SECONDS)
    (_, rebooting), = begin(plane, 'apply', [fleet.rebooting], patch)
    others = begin(plane, 'apply', [fleet.wrong, *fleet.others], patch)
    off = plane.client.apply(OFF_UUID, patch)
    assert others[0][1].state == 'queued', others
    reset_in_the_middle(plane, fleet.rebooting, rebooting)
    assert_busy(plane.end(busy), fleet.busy)
    assert_state(plane.end(rebooting), 'failed', None)
    assert_state(plane.end(off), 'failed', None)
    ends = [(guest, plane.end(operation)) for guest, operation in others]
    assert_state(ends[0][1], 'failed', 'UNSUPPORTED')
    again = [guest for guest, end in ends[1:] if not end.succeeded]
    until_done(plane, 'apply', again, patch)


def assert_state(operation, state, code):
    problem = operation.error or {}
    print(f'# {time.monotonic() - BEGAN:.0f} s: {operation.domain_name}: {operation.state}, '
          f'{problem.get("code")}: {problem.get("detail")}', flush=True)
    assert operation.state == state and code in (None, problem['code']), operation


def assert_busy(operation, guest):
    assert_state(operation, 'failed', 'BUSY')
    pid = int(guest.check('cat /tmp/pid'))
    assert [(task.pid, task.function) for task in operation.blocking] == \
        [(pid, 'wait_for_partner')], operation.blocking


def expect(plane, fleet, names, exceptions=()):
    """Each guest runs NAMES, or what EXCEPTIONS ({its name: names}) say; the daemon says so, and
    so do its last event and its metrics."""
    patched = {}
    for guest in fleet.all:
        wanted = dict(exceptions).get(guest.name, names)
        assert in_force(guest) == wanted, f'{guest.name} runs {in_force(guest)}, not {wanted}'
        domain = plane.patches(guest.uuid, *wanted)
        assert domain.kernel.release == guest.release and domain.state == 'running', domain
        until(lambda guest=guest, domain=domain: plane.story.domain(guest.uuid).patches ==
              domain.patches, f'event of {guest.name}', 20)
        if wanted:
            patched[guest.name,] = len(wanted)
        assert guest.qmp.status() == 'running'
    metrics = plane.metrics()
    assert metrics.by('hvpatch_domain_patches', 'domain') == patched, metrics.series
    assert metrics.value('hvpatch_patched_domains') == len(patched)
    assert metrics.value('hvpatch_domains') == len(fleet.all) + 1
    assert metrics.value('hvpatch_operations_running') == 0
    assert metrics.value('hvpatch_operations_queued') == 0
    print(f'# {time.monotonic() - BEGAN:.0f} s: {len(patched)} guests run {names}', flush=True)


def assert_same_story(plane, fleet):
    """What was told at the end of each operation is what is counted, and what QEMU saw."""
    ended, metrics = plane.story.ended(), plane.metrics()
    told = Counter((operation.verb, operation.state, (operation.error or {}).get('code', ''))
                   for operation in ended)
    assert metrics.by('hvpatch_operations_total', 'verb', 'result', 'code') == told, \
        (metrics.series, told)
    assert [operation.id for operation in ended] == list(dict.fromkeys(
        operation.id for operation in ended)), 'an operation ended twice'
    switched = [operation.pause_usec for operation in ended
                if operation.succeeded and operation.pause_usec]
    assert metrics.value('hvpatch_pause_seconds_count') == len(switched)
    assert abs(metrics.value('hvpatch_pause_seconds_sum') - sum(switched) / 1e6) < 0.001
    assert metrics.value('hvpatch_blockers_total', function='wait_for_partner') >= 1
    assert metrics.value('hvpatch_worker_crashes_total') == 0
    assert plane.story.most_at_work() <= MAX_STOPPED, plane.story.most_at_work()
    by_guest = {guest.name: stops(guest) for guest in fleet.all}
    spans = [span for found in by_guest.values() for span in found]
    assert most_at_once(spans) <= MAX_STOPPED, by_guest
    assert len(spans) >= len(switched), by_guest
    longest = max(end - start for start, end in spans)
    print(f'# {len(ended)} operations, {len(spans)} stops, the longest {longest * 1e3:.0f} ms, '
          f'switched in {max(switched) / 1e3:.1f} ms at most', flush=True)


def day(plane, fleet):
    for guest in fleet.all:
        plane.wait_domain(guest.uuid, lambda domain: domain.seen_at and domain.kernel, 'look')
    first, _ = plane.client.upload(fleet.busy.module(FIRST))
    morning(plane, fleet, first)
    plane.client.refresh(fleet.rebooting.uuid)
    none = {guest.name: [] for guest in (fleet.wrong, fleet.rebooting)}
    fifo_leave(fleet.busy)
    expect(plane, fleet, [FIRST], {**none, fleet.busy.name: []})
    # Who was busy is not any more, and who rebooted is there again.
    until_done(plane, 'apply', [fleet.busy, fleet.rebooting], first)
    wrong = {fleet.wrong.name: []}
    expect(plane, fleet, [FIRST], wrong)
    second, _ = plane.client.upload(fleet.busy.module(SECOND))
    until_done(plane, 'apply', fleet.right, second)
    expect(plane, fleet, [FIRST, SECOND], wrong)
    until_done(plane, 'revert', fleet.right, second)
    until_done(plane, 'revert', fleet.right, first)
    expect(plane, fleet, [])
    assert_same_story(plane, fleet)
    for guest in fleet.all:
        assert_invariants(guest, (r'.*',) if guest is fleet.rebooting else ())


@suite.case('four-to-twenty-domains-THE_SAME_STORY', guest=False, timeout=240 + 60 * COUNT)
def _():
    if missing():
        raise Skip(missing())
    guests = []
    worker = real_worker()
    try:
        daemon.ensure()
        fleet = boot(max(COUNT, 4), guests)
        path = fleet.busy.path('off.xml')
        with open(path, 'w', encoding='utf-8') as stream:
            stream.write(OFF.format(OFF_UUID))
        virsh('define', path)
        with Plane(uri=URI, worker=worker, config=CONFIG) as plane:
            day(plane, fleet)
    finally:
        for guest in guests:
            guest.stop()
        virsh('undefine', 'off', check=False)


# --- very many ---

EVERY = 25
KINDS = {
    0: ({'exit': 4, 'result': None, 'error': {'code': 'BUSY', 'message': 'tasks are in the way'}},
        'failed'),
    1: ({'exit': 3, 'result': None, 'error': {'code': 'UNSUPPORTED', 'message': 'other kernel'}},
        'failed'),
    2: ({'exit': 1, 'result': None, 'error': {'code': 'VM_GONE', 'message': 'it was reset'}},
        'failed'),
    3: ({'exit': 6, 'result': None, 'error': {'code': 'UNDONE', 'message': 'too slow'}},
        'rolled-back'),
}


def script_some(core):
    """{name: (state, code)} of those that end otherwise than well."""
    ends = {}
    for number, name in enumerate(core.names):
        if number % EVERY in KINDS:
            script, state = KINDS[number % EVERY]
            core.script(f'{name}.apply', **script)
            ends[name] = state, script['error']['code']
    return ends


@suite.case('five-hundred-domains-of-the-test-driver-EACH_ENDS', guest=False, timeout=400)
def _():
    names = [f'web-{number:03}' for number in range(FAKE_COUNT)]
    with Plane(domains=names, config=CONFIG) as plane:
        started = time.monotonic()
        bad = script_some(plane.core)
        patch, _ = plane.client.upload(plane.core.module())
        domains = plane.client.domains()
        assert [domain.name for domain in domains] == names
        random.Random(1).shuffle(domains)
        begun = [plane.client.apply(domain, patch) for domain in domains]
        print(f'# {len(begun)} begun after {time.monotonic() - started:.1f} s', flush=True)
        ends = [plane.end(operation, END_SECONDS) for operation in begun]
        print(f'# all ended after {time.monotonic() - started:.1f} s', flush=True)
        for end in ends:
            code = (end.error or {}).get('code')
            assert (end.state, code) == bad.get(end.domain_name, ('applied', None)), end
        assert plane.story.most_at_work() <= MAX_STOPPED
        told = Counter((end.verb, end.state, (end.error or {}).get('code', ''))
                       for end in plane.story.ended())
        assert plane.metrics().by('hvpatch_operations_total', 'verb', 'result', 'code') == told
        assert sum(told.values()) == FAKE_COUNT


if __name__ == '__main__':
    main(suite)
