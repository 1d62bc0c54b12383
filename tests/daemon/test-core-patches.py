#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The patches that hvpatchd keeps: there and of use, or gone; nothing half, whatever is cut off and
whatever comes at the same time.
"""

import concurrent.futures
import itertools
import json
import os
import sys
import time

from core import HERE, Problem, core_with, refused, until

import gi

gi.require_version('GLib', '2.0')
from gi.repository import GLib  # pylint: disable=wrong-import-position,wrong-import-order

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Suite  # pylint: disable=wrong-import-position

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


def upload_held(core, pool, path, go):
    """An upload that waits for its worker, which waits for @go."""
    before = len(core.jobs('inspect'))
    core.script('inspect', wait=go, result=INSPECTED)
    upload = pool.submit(core.upload_file, path)
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
                     damaged + '.ko', damaged + '.json', 'notes', 'e.ko'):
            put(core, name)
        core.run()
        others = ['notes', 'e.ko', damaged + '.ko', damaged + '.json']
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


if __name__ == '__main__':
    suite.main()
