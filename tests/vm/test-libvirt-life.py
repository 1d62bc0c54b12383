#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's life with patches: what its metadata say and whether that is true after a reboot, save
and restore, a revert to a snapshot, a migration to another libvirtd and back; what `watch` tells of
it, and makes right again.
"""

import contextlib
import glob
import json
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree

from channel import Channel
from guest import ROOT, die_with_parent, hvpatch_path, script
from libvirt import URI, LibvirtGuest, OtherHost, daemon, main, virsh
from qmp import Qmp
from tap import Skip, Suite

DONE, FAILED, BUSY, REFUSED = 0, 1, 4, 5
NEW = 'hvpatch was here'
URN = 'urn:hvpatch:domain:1'
NAME = 'hvp_cmdline'
CVE = 'CVE-2026-12345'
# Where memory goes with a snapshot.
DISK = ("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>"
        "<target dev='sda' bus='sata'/></disk><controller type='sata'/>")
# How libvirt hears of a panic, where the guest has the driver.
PANIC = "<panic model='isa'/>"
DISK_BYTES = 1 << 30
CLUSTER_BITS = 16
HELLO_SECONDS = 60
FAST_MIB_PER_SECOND = 1000
# Whose name wants to be XML of its own.
HOSTILE = "x'/><applied name=\"&lt;evil\"/><a b='\x01\n"


def make_disk(path):
    """An empty qcow2 (QEMU's docs/interop/qcow2.txt): qemu-img would be one more package. Clusters:
    header, table of reference counts, their block, L1 table."""
    cluster = 1 << CLUSTER_BITS
    header = struct.pack('>4sIQIIQIIQQIIQQQQII', b'QFI\xfb', 3, 0, 0, CLUSTER_BITS, DISK_BYTES, 0,
                         DISK_BYTES * 8 // cluster ** 2, 3 * cluster, cluster, 1, 0, 0, 0, 0, 0, 4,
                         104)
    with open(path, 'wb') as stream:
        for part in (header, struct.pack('>Q', 2 * cluster), struct.pack('>4H', 1, 1, 1, 1), b''):
            stream.write(part.ljust(cluster, b'\0'))


class LifeGuest(LibvirtGuest):
    """A persistent domain with a disk for snapshots and a device that tells of panics. It can do
    without the test's own lines for a while: after a restore there is another QEMU behind them.

    host: where it was migrated to; None: it is at home."""

    def __init__(self, kernel, **options):
        super().__init__(kernel, **options)
        self.host = self._other_host = None
        self._hosts = contextlib.ExitStack()

    def _xml(self):
        if not os.path.exists(self.path('disk.qcow2')):
            make_disk(self.path('disk.qcow2'))
        devices = DISK.format(self.path('disk.qcow2')) + PANIC + '</devices>'
        return super()._xml().replace('</devices>', devices)

    def define(self):
        with open(self.path('domain.xml'), 'w') as stream:
            stream.write(self._xml())
        virsh('define', self.path('domain.xml'))

    def _boot(self):
        self.define()
        super()._boot()

    def start(self):
        """Again, after a destroy: as it is defined."""
        virsh('start', self.name)
        self.reconnect()
        self.wait_rebooted()

    def stop(self):
        self._hosts.close()
        self.host = self._other_host = None
        super().stop()
        if self.name:
            virsh('undefine', self.name, '--snapshots-metadata', '--managed-save', check=False)

    def reconnect(self):
        """To the QEMU that goes on from where another one was."""
        self._close_lines()
        self._next_violation = self._final = 0
        root = self.host.root if self.host else ''
        self.qmp = Qmp(root + self.path('test.qmp'), timeout=20)
        self._channel = Channel(root + self.path('channel'), timeout=20)

    def wait_rebooted(self):
        self._channel.wait_for_hello(HELLO_SECONDS)
        self.qmp.take_events()
        self.mark_dmesg()

    def crash(self):
        """The kernel panics, a moment later."""
        self.check('(sleep 0.2; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &')

    def load_panic_driver(self):
        for name in ('pvpanic', 'pvpanic-mmio'):
            found = glob.glob(os.path.join(script('path', self.release), 'image', 'lib', 'modules',
                                           self.release, '**', f'{name}.ko*'), recursive=True)
            if not found or not found[0].endswith(('.ko', '.xz')):
                raise Skip(f'{self.release} has no module {name} that can be read here')
            opener = lzma.open if found[0].endswith('.xz') else open
            with opener(found[0], 'rb') as stream:
                self.put(f'/tmp/{name}.ko', stream.read())
            self.check(f'insmod /tmp/{name}.ko')

    # --- to another host and back ---

    def other_host(self):
        """One that it can be migrated to, until it is stopped."""
        if self._other_host is None:
            self._other_host = self._hosts.enter_context(OtherHost())
            self._other_host.share(self.folder, 'disk.qcow2')
        return self._other_host

    def migration(self, host):
        """The virsh that migrates it; p2p where its daemon can reach the other's."""
        for name in self.virsh('snapshot-list', self.name, '--name').split():
            self.virsh('snapshot-delete', self.name, name, '--metadata')
        options = ['--live', '--persistent', '--undefinesource', '--unsafe',
                   *(['--p2p'] if host else [])]
        path = os.path.join(self._other_host.folder, 'migration')
        return subprocess.Popen(
            ['virsh', '-q', '-c', self.uri, 'migrate', *options, '--migrateuri', f'unix://{path}',
             self.name, host.uri if host else URI], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def migrate(self, host):
        """To HOST, or back home (None)."""
        process = self.migration(host)
        said, _ = process.communicate()
        assert process.returncode == 0, f'virsh migrate: {said}'
        self.host = host
        self.reconnect()

    @property
    def uri(self):
        return self.host.uri if self.host else URI

    def virsh(self, *arguments, **options):
        """Where it is now."""
        return virsh(*arguments, uri=self.uri, **options)

    def state(self):
        return self.virsh('domstate', self.name)

    def hvpatch_command(self, *arguments, **options):
        enter = self.host.enter if self.host else ()
        return [*enter, *super().hvpatch_command(*arguments, **options)]

    # --- what is noted, and what is ---

    def patched(self):
        return self.check('cat /proc/cmdline') == NEW

    def metadata(self, *options):
        """The element of ours; None if there is none."""
        text = self.virsh('metadata', self.name, URN, *options, check=False)
        return ElementTree.fromstring(text) if text else None

    def noted(self, kind='applied', *options):
        """The attributes of what the metadata say is applied, or installed."""
        element = self.metadata(*options)
        return [] if element is None else [dict(item.attrib) for item in element
                                           if item.tag.rpartition('}')[2] == kind]

    def set_stale(self, text=f'<patches><applied name="{NAME}" by="nobody"/></patches>'):
        self.virsh('metadata', self.name, URN, '--key', 'hvpatch', '--live', '--set', text)


suite = Suite('6.1', '6.12', guest_class=LifeGuest, oracle=False)


def status_of(guest):
    """Names of the patches that are in force."""
    result = guest.hvpatch('status')
    assert result.status == DONE and not result.stderr, result
    return [patch['name'] for patch in result.json['patches'] if patch['verified']]


def apply(guest, path=None, **options):
    result = guest.hvpatch('apply', path or guest.module(NAME), **options)
    assert result.status == DONE and not result.stderr, result
    return result


def revert(guest):
    result = guest.hvpatch('revert', NAME)
    assert result.status == DONE and not result.stderr, result


# --- metadata ---

@suite.case('metadata-SHOWN_AND_GONE')
def _(guest):
    path = shutil.copy(guest.module(NAME), guest.folder)
    with open(path.replace('.ko', '.hvpatch.json'), 'w') as stream:
        json.dump({'cves': [CVE]}, stream)
    result = apply(guest, path, environment={'SUDO_USER': 'alice'})
    noted, = guest.noted()
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', noted.pop('at')), noted
    assert noted == {'name': NAME, 'sha256': result.json['sha256'], 'cves': CVE, 'by': 'root',
                     'uid': '0', 'sudo_user': 'alice',
                     'pause_usec': str(result.json['pause_usec'])}, noted
    assert URN in virsh('dumpxml', guest.name)
    assert guest.metadata('--config') is None
    before = guest.metadata()
    assert status_of(guest) == [NAME]
    assert ElementTree.tostring(guest.metadata()) == ElementTree.tostring(before)
    revert(guest)
    assert guest.metadata() is None and URN not in virsh('dumpxml', guest.name)


@suite.case('hostile-text-ESCAPED')
def _(guest):
    apply(guest, environment={'SUDO_USER': HOSTILE})
    noted, = guest.noted()
    assert noted['name'] == NAME and noted['sudo_user'] == \
        HOSTILE.replace('\x01', r'\x01').replace('\n', r'\x0a'), noted
    revert(guest)


@suite.case('stale-CORRECTED')
def _(guest):
    guest.set_stale()
    assert status_of(guest) == [] and guest.metadata() is None
    guest.set_stale('<something-else/>')
    assert status_of(guest) == [] and guest.metadata() is None
    apply(guest)
    virsh('metadata', guest.name, URN, '--live', '--remove')
    assert status_of(guest) == [NAME]
    noted, = guest.noted()
    # Who it was is not known any more.
    assert noted['name'] == NAME and 'by' not in noted and 'pause_usec' not in noted, noted
    guest.set_stale()
    revert(guest)
    assert guest.metadata() is None


@suite.case('job-in-the-way-WARNED')
def _(guest):
    guest.set_stale()
    os.mkfifo(guest.path('slow'))
    pipe = os.open(guest.path('slow'), os.O_RDWR)
    save = threading.Thread(target=virsh, args=('save', guest.name, guest.path('slow')),
                            kwargs={'check': False})
    save.start()
    try:
        while 'Time elapsed' not in virsh('domjobinfo', guest.name):
            time.sleep(0.05)
        result = guest.hvpatch('status')
        assert result.status == DONE and result.json['patches'] == [], result
        assert 'warning: ' in result.stderr and 5 < result.seconds < 20, result
    finally:
        virsh('domjobabort', guest.name)
        os.close(pipe)
        save.join()
    guest.wait_state('running')
    assert status_of(guest) == [] and guest.metadata() is None


# --- what happens to domains ---

@suite.case('reboot-CORRECTED')
def _(guest):
    apply(guest)
    virsh('reboot', guest.name, '--mode', 'acpi')
    # Nobody in this guest listens to its power button.
    guest.check('(sleep 0.2; poweroff -f) >/dev/null 2>&1 &')
    guest.wait_rebooted()
    assert guest.noted() != [] and status_of(guest) == []
    assert guest.metadata() is None and not guest.patched()


@suite.case('save-restore-TRUE')
def _(guest):
    apply(guest)
    before, = guest.noted()
    virsh('save', guest.name, guest.path('state'))
    virsh('restore', guest.path('state'))
    guest.reconnect()
    assert guest.patched()
    assert status_of(guest) == [NAME] and guest.noted() == [before]
    revert(guest)
    assert guest.metadata() is None and not guest.patched()


@suite.case('snapshot-revert-CORRECTED')
def _(guest):
    virsh('snapshot-create-as', guest.name, 'before')
    apply(guest)
    before, = guest.noted()
    virsh('snapshot-create-as', guest.name, 'after')
    virsh('snapshot-revert', guest.name, 'before')
    guest.reconnect()
    guest.set_stale()
    assert not guest.patched()
    assert status_of(guest) == [] and guest.metadata() is None
    virsh('snapshot-revert', guest.name, 'after')
    guest.reconnect()
    assert guest.patched()
    assert status_of(guest) == [NAME] and guest.noted()[0]['name'] == NAME
    assert guest.noted() == [before], guest.noted()
    revert(guest)
    assert guest.metadata() is None and not guest.patched()


# --- watch ---

class Watch:
    """A running `hvpatch watch`, here or on another host, and what it says."""

    def __init__(self, *options, host=None):
        self._entered = host is not None
        self._process = subprocess.Popen(
            [*(host.enter if host else ()), hvpatch_path(), '-o', 'json', 'watch', *options],
            stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        self.said = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pid = self._process.pid
        with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{pid}/children') as stream:
            for child in stream.read().split() if self._entered else ():
                os.kill(int(child), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def wait(self, event, patches=None, after=0, timeout=90):
        """The next finding of that kind, and how many there were by then."""
        deadline = time.monotonic() + timeout
        while True:
            for number, finding in enumerate(self.said[after:], after + 1):
                if finding['event'] == event and patches in (None, finding['patches']):
                    return finding, number
            assert self._process.poll() is None, f'watch has ended: {self.said}'
            assert time.monotonic() < deadline, f'no {event} {patches}: {self.said[after:]}'
            time.sleep(0.05)


def installed(guest, *command):
    result = guest.hvpatch(*(command or ('install',)))
    assert result.status == DONE and not result.stderr, result
    return [patch['name'] for patch in result.json['installed']]


@suite.case('install-uninstall-NOTED')
def _(guest):
    assert installed(guest) == []
    assert installed(guest, 'install', guest.module(NAME)) == [NAME]
    file = guest.hvpatch('install').json['installed'][0]['file']
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(file)).st_mode & 0o777 == 0o700
    for options in ((), ('--config',)):
        noted, = guest.noted('installed', *options)
        assert noted['name'] == NAME and noted['by'] == 'root', noted
    assert guest.noted() == [] and not guest.patched()
    # It is still there when something else is written.
    apply(guest)
    revert(guest)
    assert guest.noted() == [] and len(guest.noted('installed')) == 1
    with open(file, 'ab') as stream:
        stream.write(b'x')
    result = guest.hvpatch('install')
    assert result.status == FAILED and result.json['code'] == 'BAD_DATA', result
    os.truncate(file, os.path.getsize(file) - 1)
    assert guest.hvpatch('uninstall', 'other').json['code'] == 'NOT_FOUND'
    assert installed(guest, 'uninstall', NAME) == [] and not os.path.exists(file)
    assert guest.metadata() is None and guest.metadata('--config') is None


@suite.case('hook-SILENT')
def _(guest):
    hook = os.path.join(ROOT, 'docs', 'libvirt-hook')
    subprocess.run(['sh', '-n', hook], check=True)
    signal = '/run/hvpatch/hook'
    folder_was = os.path.isdir('/run/hvpatch')
    for _ in range(2):
        # Whatever libvirt says is not read.
        done = subprocess.run([hook, guest.name, 'started', 'begin', '-'], capture_output=True,
                              input=b'<domain/>' * 100000, check=False, timeout=5)
        assert (done.returncode, done.stdout, done.stderr) == (0, b'', b''), done
    assert os.path.exists(signal) == folder_was
    os.makedirs('/run/hvpatch', exist_ok=True)
    shutil.rmtree(signal, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(signal)
    os.mkdir(signal)
    assert subprocess.run([hook], capture_output=True, check=False).returncode == 0
    os.rmdir(signal)


@suite.case('watch-reader-gone-ENDS')
def _(guest):
    with subprocess.Popen([hvpatch_path(), '-d', guest.name, '-o', 'json', 'watch'],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=die_with_parent) as watch:
        assert json.loads(watch.stdout.readline())['patches'] == []
        watch.stdout.close()
        with guest.applied(NAME):
            said = watch.stderr.read()
        assert (watch.wait(), said) == (DONE, '')


@suite.case('watch-reset-GONE')
def _(guest):
    with Watch() as watch:
        watch.wait('patches', [])
        apply(guest)
        _, count = watch.wait('patches', [NAME])
        virsh('reset', guest.name)
        finding, count = watch.wait('rebooted', [NAME], count)
        assert (finding['domain'], finding['uuid']) == (guest.name, guest.uuid), finding
        guest.wait_rebooted()
        watch.wait('patches', [], count)
        # Nobody else had to look.
        assert guest.metadata() is None and not guest.patched()


@suite.case('watch-reapply-APPLIED')
def _(guest):
    assert installed(guest, 'install', guest.module(NAME)) == [NAME]
    with Watch('--reapply') as watch:
        _, count = watch.wait('applied', [NAME])
        assert guest.patched()
        _, count = watch.wait('patches', [NAME], count)
        # Its kernel panics and it reboots; nobody tells of that while the daemon is away.
        daemon.kill()
        _, count = watch.wait('disconnected', None, count)
        guest.crash()
        guest.wait_rebooted()
        daemon.start()
        _, count = watch.wait('connected', None, count)
        _, count = watch.wait('applied', [NAME], count)
        assert guest.patched() and guest.noted()[0]['name'] == NAME
        _, count = watch.wait('patches', [NAME], count)
        # Who reverts it is not contradicted.
        revert(guest)
        _, count = watch.wait('patches', [], count)
        time.sleep(2)
        assert not guest.patched() and watch.said[count:] == [], watch.said[count:]
    assert installed(guest, 'uninstall', NAME) == []


def reapplied(guest, watch, word, before, count):
    """What the watch tells of a start: that WORD, which patches there were, that they are back."""
    finding, count = watch.wait(word, before, count)
    assert (finding['domain'], finding['uuid']) == (guest.name, guest.uuid), finding
    _, count = watch.wait('applied', [NAME], count)
    _, count = watch.wait('patches', [NAME], count)
    assert guest.patched()
    assert [item['name'] for item in guest.noted()] == [NAME]
    return count


def uninstall(guest):
    revert(guest)
    assert installed(guest, 'uninstall', NAME) == []
    assert guest.metadata() is None and not guest.patched()


@suite.case('watch-destroyed-started-APPLIED')
def _(guest):
    installed(guest, 'install', guest.module(NAME))
    with Watch('--reapply') as watch:
        _, count = watch.wait('patches', [NAME])
        virsh('destroy', guest.name)
        _, count = watch.wait('stopped', [NAME], count)
        guest.start()
        reapplied(guest, watch, 'started', None, count)
        assert guest.noted()[0]['by'] == 'root' and len(guest.noted('installed')) == 1
    uninstall(guest)


@suite.case('watch-crash-and-new-domain-APPLIED')
def _(guest):
    installed(guest, 'install', guest.module(NAME))
    with Watch('--reapply') as watch:
        _, count = watch.wait('patches', [NAME])
        # libvirt hears of the panic and starts it again,
        virsh('set-lifecycle-action', guest.name, 'crash', 'restart', '--live')
        guest.load_panic_driver()
        guest.crash()
        guest.wait_rebooted()
        _, count = watch.wait('crashed', [NAME], count)
        count = reapplied(guest, watch, 'rebooted', [], count)
        # or keeps it for a look at it.
        virsh('set-lifecycle-action', guest.name, 'crash', 'preserve', '--live')
        guest.load_panic_driver()
        guest.crash()
        guest.wait_state('crashed')
        _, count = watch.wait('crashed', [NAME], count)
        result = guest.hvpatch('revert', NAME)
        assert (result.status, result.json['code']) == (REFUSED, 'CONFLICT'), result
        assert guest.hvpatch('uninstall', NAME).status == DONE
        # Its end is seen later, where nobody was there to tell.
        daemon.kill()
        _, count = watch.wait('disconnected', None, count)
        os.kill(guest.pid, signal.SIGKILL)
        daemon.start()
        _, count = watch.wait('stopped', [], count)
        virsh('undefine', guest.name, '--snapshots-metadata')
        # A domain that the watch never saw.
        guest.name, guest.uuid = guest.name + '-new', str(uuid.uuid4())
        guest.define()
        installed(guest, 'install', guest.module(NAME))
        guest.start()
        reapplied(guest, watch, 'started', None, count)
    uninstall(guest)


@suite.case('watch-restore-snapshot-APPLIED')
def _(guest):
    virsh('snapshot-create-as', guest.name, 'clean')
    installed(guest, 'install', guest.module(NAME))
    with Watch('--reapply') as watch:
        _, count = watch.wait('patches', [NAME])
        virsh('save', guest.name, guest.path('watched'))
        _, count = watch.wait('left', None, count)
        virsh('restore', guest.path('watched'))
        guest.reconnect()
        _, count = watch.wait('restored', None, count)
        _, count = watch.wait('patches', [NAME], count)
        virsh('snapshot-revert', guest.name, 'clean')
        guest.reconnect()
        _, count = watch.wait('reverted', None, count)
        _, count = watch.wait('patches', [], count)
        _, count = watch.wait('applied', [NAME], count)
        _, count = watch.wait('patches', [NAME], count)
        assert guest.patched() and [item['name'] for item in guest.noted()] == [NAME]
        revert(guest)
        _, count = watch.wait('patches', [], count)
        virsh('managedsave', guest.name)
        _, count = watch.wait('left', None, count)
        virsh('start', guest.name)
        guest.reconnect()
        reapplied(guest, watch, 'restored', None, count)
        assert [finding['event'] for finding in watch.said].count('reverted') == 1, watch.said
        # What was in force when it came back was not applied again.
        assert [finding['event'] for finding in watch.said].count('applied') == 3, watch.said
    uninstall(guest)


# --- migration ---

def assert_busy(result, job):
    assert (result.status, result.json['code']) == (BUSY, 'BUSY'), result
    assert f'libvirt is at it: {job}; ' in result.json['message'], result


@suite.case('migration-under-way-BUSY')
def _(guest):
    other = guest.other_host()
    with Watch(host=other) as watch:
        virsh('migrate-setspeed', guest.name, '1')
        process = guest.migration(other)
        while 'Outgoing migration' not in virsh('domjobinfo', guest.name, check=False):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        try:
            watch.wait('migrated-in')
            assert_busy(guest.hvpatch('apply', guest.module(NAME)), 'migration')
            assert guest.hvpatch('status').status == DONE
            guest.host = other
            # There is no guest yet to look at.
            for command in (('apply', guest.module(NAME)), ('status',)):
                assert_busy(guest.hvpatch(*command), 'incoming migration')
        finally:
            guest.host = None
            virsh('domjobabort', guest.name)
            process.communicate()
        watch.wait('stopped')
        assert [finding['event'] for finding in watch.said] == ['migrated-in', 'stopped'], \
            watch.said
    virsh('migrate-setspeed', guest.name, str(FAST_MIB_PER_SECOND))
    guest.wait_state('running')
    apply(guest)
    assert guest.patched()
    revert(guest)


@suite.case('watch-migration-TRUE_AND_APPLIED')
def _(guest):
    other = guest.other_host()
    installed(guest, 'install', guest.module(NAME))
    apply(guest, environment={'SUDO_USER': 'alice'})
    before = guest.noted()
    with Watch('--reapply') as watch:
        _, count = watch.wait('patches', [NAME])
        with Watch('--reapply', host=other) as watch_there:
            guest.migrate(other)
            _, count = watch.wait('left', None, count)
            _, count_there = watch_there.wait('migrated-in')
            _, count_there = watch_there.wait('patches', [NAME], count_there)
            # The files stayed where it came from.
            _, count_there = watch_there.wait('not-installed', [NAME], count_there)
            assert guest.patched() and status_of(guest) == [NAME]
            assert guest.noted() == before and len(guest.noted('installed')) == 1
            revert(guest)
            _, count_there = watch_there.wait('patches', [], count_there)
            assert not guest.patched() and guest.noted() == []
        # Nobody is there to correct it, until it is back.
        guest.set_stale()
        guest.migrate(None)
        reapplied(guest, watch, 'migrated-in', None, count)
        assert guest.noted()[0]['by'] == 'root', guest.noted()
    uninstall(guest)


if __name__ == '__main__':
    main(suite)
