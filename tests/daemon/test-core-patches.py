#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The patches that hvpatchd keeps: there and of use, or gone; nothing half, whatever is cut off and
whatever comes at the same time.
"""

import concurrent.futures
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

from core import ADMIN, HERE, Problem, Signer, core_with, refused, until

import gi

gi.require_version('GLib', '2.0')
from gi.repository import GLib  # pylint: disable=wrong-import-position,wrong-import-order

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Skip, Suite  # pylint: disable=wrong-import-position

suite = Suite()
INSPECTED = {'name': 'synth', 'format': 'klp', 'functions': 1, 'manifest': None}
KILLS = 12


def case(name, timeout=60.0):
    return suite.case(name, guest=False, timeout=timeout)


def folder(core):
    return os.path.join(core.state, 'patches')


def files(core):
    return sorted(name for name in os.listdir(folder(core)) if name != 'serials')


def patches(core):
    return json.loads(core.call('ListPatches', '')[0])


def put(core, name, content=b'x'):
    with open(os.path.join(folder(core), name), 'wb') as file:
        file.write(content)


def is_whole(core, *expected):
    """Those patches are there and no others, and each can be used."""
    there = sorted(patch['sha256'] for patch in patches(core))
    assert there == sorted(expected), (there, expected)
    assert files(core) == sorted(sha256 + end for sha256 in there for end in ('.json', '.ko'))
    for sha256 in there:
        ended = core.wait_end(core.start('web-1', 'apply', patch=sha256))
        assert ended['state'] == 'applied', ended


def upload_held(core, pool, path, go, signature=b''):
    """An upload that waits for its worker, which waits for @go."""
    before = len(core.jobs('inspect'))
    core.script('inspect', wait=go, result=INSPECTED)
    upload = pool.submit(core.upload_file, path, signature)
    until(lambda: len(core.jobs('inspect')) > before, 'an upload at work')
    return upload


@case('uploads-and-removals-cut-off-SWEPT')
def _():
    with core_with() as core, concurrent.futures.ThreadPoolExecutor() as pool:
        kept = core.upload('kpatch')
        upload = upload_held(core, pool, core.module(), 'never')
        assert len(files(core)) == 3
        core.kill()
        assert isinstance(upload.exception(timeout=10), GLib.Error)
        # Of every step in between, and of others who are none of its business.
        alone, damaged = 'a' * 64, 'd' * 64
        for name in (alone + '.ko', 'b' * 64 + '.json', 'c' * 64 + '.ko.A1b2C3',
                     'c' * 64 + '.json.ZZZZZZ', 'serials.000000', 'upload-7', 'upload-7.a8b9c0',
                     damaged + '.ko', damaged + '.json', 'notes', 'serials.backup', 'e.ko'):
            put(core, name)
        core.run()
        others = ['notes', 'serials.backup', 'e.ko', damaged + '.ko', damaged + '.json']
        assert files(core) == sorted([kept + '.ko', kept + '.json', *others]), files(core)
        assert core.log_text().count('was cut off; deleted') == 8, core.log_text()
        for name in others:
            os.unlink(os.path.join(folder(core), name))
        is_whole(core, kept)
        os.unlink(os.path.join(core.scripts, 'inspect.json'))
        is_whole(core, kept, core.upload())


@case('removed-while-uploaded-again-WHOLE')
def _():
    with core_with() as core, concurrent.futures.ThreadPoolExecutor() as pool:
        path = core.module()
        sha256 = core.upload_file(path)[0]['sha256']
        # The upload comes to its end last, ...
        upload = upload_held(core, pool, path, 'first')
        core.call('DeletePatch', 's', sha256)
        refused('NOT_FOUND', core.start, 'web-1', 'apply', patch=sha256)
        core.go('first')
        assert upload.result(timeout=10)[1]
        is_whole(core, sha256)
        core.kill()
        core.run()
        is_whole(core, sha256)
        # ... or the removal.
        upload = upload_held(core, pool, path, 'second')
        core.go('second')
        assert not upload.result(timeout=10)[1]
        core.call('DeletePatch', 's', sha256)
        is_whole(core)
        core.kill()
        core.run()
        is_whole(core)


@case('uploads-of-the-same-one-of-which-one-fails-WHOLE')
def _():
    with core_with() as core, concurrent.futures.ThreadPoolExecutor() as pool:
        path = core.module()
        upload = upload_held(core, pool, path, 'go')
        core.script('inspect', do='crash')
        refused('BAD_DATA', core.upload_file, path)
        assert not patches(core)
        core.go()
        is_whole(core, upload.result(timeout=10)[0]['sha256'])


def work(core, paths, finished):
    """Uploads and removes until there is nobody to ask; adds to FINISHED what was uploaded."""
    for path in itertools.cycle(paths):
        try:
            sha256 = core.upload_file(path)[0]['sha256']
            finished.append(sha256)
            core.upload_file(path)
            core.call('DeletePatch', 's', sha256)
        except Problem as problem:
            assert problem.code in ('NOT_FOUND', 'TOO_MANY', 'BAD_DATA'), problem
        except GLib.Error:
            return


@case('killed-at-any-time-WHOLE', timeout=180.0)
def _():
    with core_with(config='allow-downgrade=yes\n') as core, \
            concurrent.futures.ThreadPoolExecutor() as pool:
        paths = [core.module(), core.module('kpatch'), core.module(3)]
        for round_number in range(KILLS):
            finished = []
            workers = [pool.submit(work, core, paths[at:] + paths[:at], finished)
                       for at in range(3)]
            until(lambda done=finished: done, 'an upload')
            time.sleep(0.017 * round_number)
            core.kill()
            for worker in workers:
                worker.result(timeout=20)
            core.run()
            is_whole(core, *(patch['sha256'] for patch in patches(core)))


# --- signatures ---

def signers(core, *names):
    if not shutil.which('minisign'):
        raise Skip('minisign is missing')
    return [Signer(core.folder, name) for name in names]


def reconfigure(core, *parts, roles=ADMIN):
    core.write_config(''.join(parts), roles)
    assert 'was read again' in core.reload()


def document(core, sha256):
    return json.loads(core.call('GetPatch', 's', sha256)[0])


def told_of_patches(core, since):
    return [event['document'] for event in core.events(since)[0] if event['type'] == 'patch']


def apply(core, sha256):
    """What becomes of it."""
    ended = core.wait_end(core.start('web-1', 'apply', patch=sha256))
    return ended['error']['code'] if ended['state'] == 'failed' else ended['state']


@case('keys-rotated-uploaded-again-USABLE')
def _():
    with core_with() as core:
        old, new, ended = signers(core, 'old', 'new', 'ended')
        path, other = core.module(), core.module('kpatch')
        signature = old.sign(path)
        reconfigure(core, 'unsigned=refuse\n', old.config)
        first, created = core.upload_file(path, signature)
        sha256 = first['sha256']
        assert created and first['signed_by'] == 'old', first
        keys = ['unsigned=refuse\n', new.config, ended.config, 'not-after=2001-01-01T00:00:00Z\n']
        reconfigure(core, *keys)
        assert apply(core, sha256) == 'PERMISSION'
        # None of these is good, and none takes the place of the one that is not good any more.
        good = new.sign(path)
        for bad, code in ((signature, 'PERMISSION'), (b'', 'PERMISSION'), (b'nonsense', 'BAD_DATA'),
                          (new.sign(other), 'PERMISSION'), (ended.sign(path), 'PERMISSION'),
                          (good.replace(b'by a test', b'by a jest'), 'PERMISSION')):
            refused(code, core.upload_file, path, bad)
            assert document(core, sha256) == first
        last = core.events()[2]
        second, created = core.upload_file(path, good)
        assert not created and second['signed_by'] == 'new', second
        assert second['uploaded_at'] > first['uploaded_at']
        assert {**second, 'signed_by': 'old', 'uploaded_at': first['uploaded_at']} == first
        assert document(core, sha256) == second and patches(core) == [second]
        assert told_of_patches(core, last) == [second]
        is_whole(core, sha256)
        core.kill()
        core.run()
        assert document(core, sha256) == second
        is_whole(core, sha256)
        # The same once more is no change, and nobody is told of one.
        last = core.events()[2]
        assert core.upload_file(path, good) == (second, False)
        assert not told_of_patches(core, last)
        reconfigure(core, 'unsigned=refuse\n', old.config)
        assert apply(core, sha256) == 'PERMISSION'


@case('key-renamed-uploaded-again-TOLD')
def _():
    with core_with() as core:
        signer, = signers(core, 'before')
        path = core.module()
        signature = signer.sign(path)
        reconfigure(core, signer.config)
        core.upload_file(path, signature)
        reconfigure(core, signer.config.replace('before', 'after'))
        patch, created = core.upload_file(path, signature)
        assert not created and patch['signed_by'] == 'after', patch
        is_whole(core, patch['sha256'])


@case('signature-of-one-who-may-not-upload-KEPT')
def _():
    roles = ADMIN + ('[role uploader]\nprincipals=cert:uploader\nverbs=view;upload\ndomains=*\n'
                     '[role operator]\nprincipals=cert:operator\nverbs=view;apply\ndomains=*\n')
    with core_with() as core:
        old, new = signers(core, 'old', 'new')
        path = core.module()
        reconfigure(core, 'unsigned=refuse\n', old.config, new.config, roles=roles)
        first = core.upload_file(path, old.sign(path))[0]
        refused('FORBIDDEN', core.upload_file, path, new.sign(path), principal='cert:operator')
        assert document(core, first['sha256']) == first
        second = core.upload_file(path, new.sign(path), principal='cert:uploader')[0]
        assert (second['signed_by'], second['principal']) == ('new', 'cert:uploader'), second


@case('unsigned-REPLACES-nothing')
def _():
    with core_with() as core:
        signer, = signers(core, 'vendor')
        path = core.module()
        reconfigure(core, signer.config)
        assert core.upload_file(path)[0]['signature'] == 'none'
        signed, created = core.upload_file(path, signer.sign(path))
        assert not created and signed['signature'] == 'minisign', signed
        assert core.upload_file(path) == (signed, False)
        reconfigure(core, 'unsigned=refuse\n', signer.config)
        is_whole(core, signed['sha256'])


@case('operations-begun-with-another-signature-GO-ON')
def _():
    with core_with(domains=['web-1', 'web-2']) as core:
        old, new = signers(core, 'old', 'new')
        path = core.module()
        reconfigure(core, 'workers=1\nunsigned=refuse\n', old.config)
        sha256 = core.upload_file(path, old.sign(path))[0]['sha256']
        core.script('apply', wait='go')
        operations = [core.start(name, 'apply', patch=sha256) for name in ('web-1', 'web-2')]
        until(lambda: core.jobs('apply'), 'a worker')
        reconfigure(core, 'workers=1\nunsigned=refuse\n', new.config)
        assert core.upload_file(path, new.sign(path))[0]['signed_by'] == 'new'
        core.go()
        for operation in operations:
            assert core.wait_end(operation)['state'] == 'applied'


@case('signature-of-yesterday-that-comes-late-REFUSED')
def _():
    with core_with() as core, concurrent.futures.ThreadPoolExecutor() as pool:
        old, new = signers(core, 'old', 'new')
        path = core.module()
        reconfigure(core, 'unsigned=refuse\n', old.config)
        late = upload_held(core, pool, path, 'go', old.sign(path))
        os.unlink(os.path.join(core.scripts, 'inspect.json'))
        reconfigure(core, 'unsigned=refuse\n', new.config)
        patch, created = core.upload_file(path, new.sign(path))
        assert created
        core.go()
        refused('UNAVAILABLE', late.result, timeout=10)
        assert document(core, patch['sha256']) == patch
        is_whole(core, patch['sha256'])


@case('serial-numbers-of-signatures-GROW')
def _():
    with core_with() as core:
        signer, = signers(core, 'vendor')
        path = core.module()
        reconfigure(core, 'unsigned=refuse\n', signer.config)
        signature = {number: signer.sign(path, f'serial:{number}') for number in (5, 6, 7)}
        sha256 = core.upload_file(path, signature[5])[0]['sha256']
        with open(os.path.join(folder(core), 'serials'), 'rb') as file:
            before = file.read()
        assert core.upload_file(path, signature[7])[0]['serial'] == 7
        # As if the end had come before the number was written.
        core.kill()
        put(core, 'serials', before)
        core.run()
        for bad in (signature[6], signature[5], signer.sign(path)):
            refused('CONFLICT', core.upload_file, path, bad)
        assert document(core, sha256)['serial'] == 7
        is_whole(core, sha256)
        core.call('DeletePatch', 's', sha256)
        core.kill()
        core.run()
        refused('CONFLICT', core.upload_file, path, signature[6])


def inject(core, calls, number, what):
    """strace, which does that to the NUMBERth of those calls of a thread of hvpatchd."""
    if not shutil.which('strace'):
        raise Skip('no strace')
    pid = core.process.pid
    tracer = subprocess.Popen(['strace', '-f', '-qq', '-o', '/dev/null', '-e', f'trace={calls}',
                               '-e', f'inject={calls}:{what}:when={number}', '-p', str(pid)])
    until(lambda: all(tracer_of(pid, thread) == tracer.pid
                      for thread in os.listdir(f'/proc/{pid}/task')), 'tracer')
    return tracer


def tracer_of(pid, thread):
    with open(f'/proc/{pid}/task/{thread}/status', encoding='utf-8') as file:
        return int(re.search(r'^TracerPid:\t([0-9]+)$', file.read(), re.MULTILINE)[1])


def upload_and_die(core, path, signature, calls, number):
    """Whether it died of it."""
    tracer = inject(core, calls, number, 'signal=SIGKILL')
    try:
        core.upload_file(path, signature)
        died = False
    except GLib.Error:
        died = True
    core.kill()
    core.process.wait()
    tracer.wait(timeout=10)
    return died


@case('failed-writes-of-a-new-signature-OLD-or-NEW')
def _():
    with core_with() as core:
        signer, = signers(core, 'vendor')
        path = core.module()
        reconfigure(core, 'unsigned=refuse\n', signer.config)
        signature = [signer.sign(path, f'serial:{number}') for number in range(4)]
        first = core.upload_file(path, signature[1])[0]
        sha256 = first['sha256']
        # Of the file itself, and of the record: with the other signature it is still of use.
        for number in (1, 2):
            tracer = inject(core, '/^rename', number, 'error=EIO')
            refused('FAULT', core.upload_file, path, signature[2])
            tracer.terminate()
            tracer.wait(timeout=10)
            assert document(core, sha256) == first
            is_whole(core, sha256)
        # Of the number: the record has it as well, but not for longer than it is there itself.
        tracer = inject(core, '/^rename', '3+', 'error=EIO')
        assert core.upload_file(path, signature[3])[0]['serial'] == 3
        refused('FAULT', core.call, 'DeletePatch', 's', sha256)
        tracer.terminate()
        tracer.wait(timeout=10)
        is_whole(core, sha256)
        core.call('DeletePatch', 's', sha256)
        core.kill()
        core.run()
        refused('CONFLICT', core.upload_file, path, signature[2])
        core.upload_file(path, signature[3])
        is_whole(core, sha256)


@case('killed-at-each-step-of-a-new-signature-OLD-or-NEW', timeout=300.0)
def _():
    with core_with() as core:
        old, new = pair = signers(core, 'old', 'new')
        path = core.module()
        reconfigure(core, 'unsigned=refuse\n', old.config, new.config)
        serial, kills, seen = 1, 0, set()
        now = core.upload_file(path, old.sign(path, 'serial:1'))[0]
        for calls in ('/^rename', 'fsync', '/^unlink', 'sendmsg'):
            number, died = 0, True
            while died:
                number, serial = number + 1, serial + 1
                signer = pair[serial % 2]
                died = upload_and_die(core, path, signer.sign(path, f'serial:{serial}'), calls,
                                      number)
                kills += died
                core.run()
                before, now = now, document(core, now['sha256'])
                is_new = now != before
                assert is_new or died, (calls, number)
                assert not is_new or now['serial'] == serial, (calls, number, now)
                seen.add((died, is_new))
                is_whole(core, now['sha256'])
        print(f'# {kills} kills')
        assert seen == {(True, False), (True, True), (False, True)}, seen


if __name__ == '__main__':
    suite.main()
