#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU plugin on real guests: it counts, it sees old code run, and it holds nobody up."""

import contextlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import threading

import oracle as protocol
from guest import ROOT, Guest, OldCodeRan, assert_invariants, hvpatch_path, plugin_path
from oracle import ALL_VCPUS, HEADER, Oracle, Refused
from tap import PATCHING_ITSELF, Skip, Suite

DONE, FAILED, BUSY = 0, 1, 4
MODULE, FUNCTION = 'hvp_cmdline', 'cmdline_proc_show'
# Longer than any function that is looked at here, and all of the watched range.
FUNCTION_BYTES = 4096
READS = 7

suite = Suite('6.1', '6.12')


def need_plugin():
    if not plugin_path():
        raise Skip('libhvpatch-plugin.so is not beside the hvpatch under test')


def blind_path():
    path = os.path.join(os.path.dirname(os.path.realpath(hvpatch_path())), '..', 'tests', 'tools',
                        'hvpatch-blind')
    if not os.path.exists(path):
        raise Skip('hvpatch-blind is not beside the hvpatch under test')
    return path


def keeper_path():
    return os.environ.get('HVPATCH_KEEPER') or os.path.join(
        os.path.dirname(os.path.realpath(hvpatch_path())), 'hvpatch-keeper')


def read_often(guest):
    """In a loop of the guest's shell, on each vCPU in turn."""
    guest.check(f'for cpu in 0 1; do for i in $(seq {READS}); do '
                'taskset $((1 << cpu)) cat /proc/cmdline > /dev/null; done; done')


def check_counts(guest):
    """Counts of the old and the new function through an apply and a revert."""
    need_plugin()
    with guest.oracle() as oracle:
        confirmed = oracle.state().confirmed
    result = guest.hvpatch('apply', guest.module(MODULE))
    assert result.status == DONE, result
    old, new, site = (int(result.json['functions'][0][key], 16) for key in ('old', 'new', 'site'))
    read_often(guest)
    with guest.oracle() as oracle:
        counts = oracle.counts(old, old + FUNCTION_BYTES)
        assert {pc for pc, (_, since) in counts.items() if since} == {old, site} | \
            {pc for pc in counts if old < pc < site and counts[pc][1]}, counts
        assert counts[old][1] == counts[site][1] == 2 * READS, counts
        assert oracle.counts(new, new + FUNCTION_BYTES)[new] == (0, 2 * READS)
        each = [oracle.counts(old, old + 1, vcpu)[old][1] for vcpu in range(oracle.state().vcpus)]
        assert sum(each) == 2 * READS and all(each[:2]), each
        assert oracle.state().confirmed == confirmed + 1
    assert guest.hvpatch('revert', MODULE).status == DONE
    read_often(guest)
    with guest.oracle() as oracle:
        counts = oracle.counts(old, old + FUNCTION_BYTES)
        assert all(since == 2 * READS for _, since in counts.values()) and len(counts) > 4, counts
        assert oracle.counts(new, new + FUNCTION_BYTES) == {}
        assert (oracle.state().confirmed, oracle.state().undecided) == (confirmed + 2, 0)


@suite.case('apply-and-revert-COUNTED')
def _(guest):
    check_counts(guest)


@suite.case('newer-qemu-COUNTED', guest=False, timeout=300)
def _():
    """The same library under QEMU 10.0, of bookworm-backports: $HVPATCH_QEMU_10 says where."""
    qemu = os.environ.get('HVPATCH_QEMU_10')
    if not qemu:
        raise Skip('no QEMU 10.0 ($HVPATCH_QEMU_10)')
    with Guest('6.1', qemu=qemu) as guest:
        with guest.oracle() as oracle:
            assert oracle.state().api >= 2, oracle.state()
        check_counts(guest)
        assert_invariants(guest)


@suite.case('stack-proof-skipped-VIOLATION', fresh=True)
def _(guest):
    """A build of hvpatch that asks nobody switches while a task sleeps in the old function."""
    need_plugin()
    blind = blind_path()
    guest.check('mkfifo /tmp/fifo')
    guest.check('cat /tmp/fifo > /dev/null 2>&1 & echo $! > /tmp/pid')
    guest.wait_for('grep -q wait_for_partner /proc/$(cat /tmp/pid)/stack')
    module = guest.module('hvp_sleeper')
    result = guest.hvpatch('apply', '--no-prod', '--timeout', '1', module)
    assert result.status == BUSY and guest.take_violations() == [], result
    command = [blind, *guest.hvpatch_command('apply', '--no-prod', module)[1:]]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120,
                         env={**os.environ, 'HVPATCH_KEEPER': keeper_path()})
    assert run.returncode == DONE, (run.stdout, run.stderr)
    # He sleeps on: nothing has run yet.
    assert guest.take_violations() == []
    guest.check('echo > /tmp/fifo')
    guest.wait_for('[ ! -d /proc/$(cat /tmp/pid) ]')
    violations = guest.take_violations()
    assert violations, 'the oracle is blind as well'
    for line in violations:
        assert re.fullmatch(r'(wait_for_partner|.*)\+0x[0-9a-f]+: 0x[0-9a-f]{16} ran on vCPU [01], '
                            r'\d+ us after switch 1, \d+ times \(final\)', line), line
    assert any(line.startswith('wait_for_partner+') for line in violations), violations


class Proxy:
    """Hands on what hvpatch and the plugin say to each other, up to the first request of a kind."""

    def __init__(self, guest, silent_at):
        self.path = guest.path('proxy')
        self._silent_at = silent_at
        self._guest = guest
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._ends = []
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        os.unlink(self.path)
        for end in self._ends:
            end.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._guest.oracle_path)
                self._ends += [client, server]
                threading.Thread(target=self._hand_on, args=(client, server), daemon=True).start()

    def _hand_on(self, client, server):
        with contextlib.suppress(OSError, ConnectionError):
            while True:
                request = self._message(client)
                if HEADER.unpack_from(request)[1] == self._silent_at:
                    return  # and the connection stays open
                server.sendall(request)
                client.sendall(self._message(server))

    @staticmethod
    def _message(end):
        data = b''
        while len(data) < HEADER.size or len(data) < HEADER.size + HEADER.unpack_from(data)[4]:
            wanted = HEADER.size if len(data) < HEADER.size else \
                HEADER.size + HEADER.unpack_from(data)[4]
            chunk = end.recv(wanted - len(data))
            if not chunk:
                raise ConnectionError
            data += chunk
        return data


def silent_case(name, kind):
    @suite.case(f'plugin-silent-at-{name}-NOT-SWITCHED')
    def _(guest):
        need_plugin()
        before, modules = guest.entry(FUNCTION), guest.loaded()
        with Proxy(guest, kind) as proxy:
            result = guest.hvpatch('--oracle', proxy.path, 'apply', guest.module(MODULE))
        assert result.status != DONE and result.json['code'] == 'TIMED_OUT', result
        assert 'plugin' in result.json['message'], result
        assert guest.entry(FUNCTION) == before and guest.loaded() == modules
        assert guest.qmp.status() == 'running' and guest.alive()
        # Nothing is left of it, there or here.
        with guest.applied(MODULE):
            assert guest.check('cat /proc/cmdline') == 'hvpatch was here'


silent_case('hello', protocol.HELLO)
silent_case('watch', protocol.WATCH)
silent_case('the-switch', protocol.SWITCH)


@suite.case('plugin-silent-behind-the-switch-RECOVERED')
def _(guest):
    need_plugin()
    with guest.oracle() as oracle:
        confirmed = oracle.state().confirmed
    with Proxy(guest, protocol.DECIDE) as proxy:
        result = guest.hvpatch('--oracle', proxy.path, 'apply', guest.module(MODULE))
    assert result.status != DONE and 'is in force, but' in result.json['message'], result
    assert guest.check('cat /proc/cmdline') == 'hvpatch was here'
    with guest.oracle() as oracle:
        assert oracle.state().undecided == 1
    assert guest.hvpatch('recover').status == DONE
    with guest.oracle() as oracle:
        assert (oracle.state().undecided, oracle.state().confirmed) == (0, confirmed + 1)
    assert guest.hvpatch('revert', MODULE).status == DONE


@suite.case('hostile-client-GUEST-RUNS-ON')
def _(guest):
    need_plugin()
    for data in (b'\xff' * 65536, HEADER.pack(protocol.MAGIC, protocol.WATCH, 0, 1, 1 << 31),
                 HEADER.pack(protocol.MAGIC, protocol.WATCH, 0, 1, 4096)):
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.connect(guest.oracle_path)
            client.sendall(data)
    with Oracle(guest.oracle_path) as oracle:
        for start, end in ((0, 4096), (1 << 63, 1 << 63), (0xffffffff81000000, 0xffffffffffffffff)):
            try:
                oracle.watch((start, end))
                raise AssertionError(f'{start:#x}..{end:#x} is watched')
            except Refused as refused:
                assert refused.args[0] == protocol.BAD_REQUEST, refused
        # All of the kernel's text but for its end: counted, and the guest goes on.
        text, = guest.symbol('_stext')
        before = oracle.state().ranges
        oracle.watch((text, text + (1 << 20)))
        guest.check('cat /proc/cmdline > /dev/null')
        assert oracle.counts(text, text + 64, ALL_VCPUS) is not None
        oracle.withdraw((text, text + (1 << 20)))
        assert oracle.state().ranges <= before


# Five minutes where each case has but one of the kernels; an hour by hand: scripts/soak.
SOAK_MINUTES = 5.0 if os.environ.get('CI') else 0.5


@suite.case('mixed-load-for-minutes-CLEAN', options=PATCHING_ITSELF, timeout=900)
def _(guest):
    need_plugin()
    path = os.path.join(ROOT, 'scripts', 'soak')
    loader = importlib.machinery.SourceFileLoader('soak', path)
    soak = importlib.util.module_from_spec(importlib.util.spec_from_loader('soak', loader))
    loader.exec_module(soak)
    report = soak.soak_mixed(guest, SOAK_MINUTES, seed=4)
    if report['violations']:
        raise OldCodeRan(report)
    assert not report['problems'], report


@suite.case('plugin-options-REFUSED', guest=False)
def _():
    need_plugin()
    qemu = os.environ.get('HVPATCH_QEMU', 'qemu-system-x86_64')
    if not shutil.which(qemu):
        raise Skip(f'no {qemu}')
    for option, words in (('', 'usage'), (',path=x', 'usage'), (',socket=', 'too long'),
                          (',socket=/nonexistent/folder/socket', 'No such file')):
        run = subprocess.run([qemu, '-machine', 'none', '-display', 'none', '-accel', 'tcg',
                              '-plugin', plugin_path() + option],
                             capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode != 0 and words in run.stderr, (option, run)


if __name__ == '__main__':
    suite.main()
