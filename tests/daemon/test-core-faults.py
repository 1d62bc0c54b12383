#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of operations whose worker crashes, hangs or lies, and of all when hvpatchd ends.
"""

import concurrent.futures
import json
import os
import resource
import socket
import subprocess
import sys
import time
import uuid

from core import HERE, Bus, Core, build_file, core_with, refused, switched, until

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Suite  # pylint: disable=wrong-import-position


IMPATIENT = {'HVPATCH_GRACE_MSEC': '2500'}
suite = Suite()


def case(name, timeout=60.0):
    return suite.case(name, guest=False, timeout=timeout)


def is_alive(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


# --- workers that do not do what they should ---

MISBEHAVIOUR = ('crash', 'hang', 'stop', 'flood', 'garbage', 'binary', 'huge', 'truncated', 'liar')


def lost(core, how, verb='apply', **request):
    """The end of an operation whose worker does that, and what the next one is like."""
    core.script(verb, do=how)
    ended = core.wait_end(core.start('web-1', verb, options={'timeout': 0}, **request))
    core.script(verb)
    again = core.wait_end(core.start('web-1', verb, **request))
    assert again['state'] in ('applied', 'checked', 'reverted'), again
    return ended


@case('worker-lost-NOTHING-LEFT', timeout=120)
def _():
    with core_with(environment=IMPATIENT) as core:
        sha256 = core.upload()
        for count, how in enumerate(MISBEHAVIOUR, 1):
            before = len(core.jobs('recover'))
            ended = lost(core, how, patch=sha256)
            assert (ended['state'], ended['error']['code']) == ('failed', 'INTERNAL'), (how, ended)
            assert len(core.jobs('recover')) == before + 1, how
            assert f'hvpatch_worker_crashes_total {count}\n' in core.metrics(), how
        pids = [job['pid'] for job in core.jobs()]
        until(lambda: not any(is_alive(pid) for pid in pids), 'end of all workers')


@case('worker-lost-recovered-ROLLED-BACK')
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('recover', result={'version': 1, 'recovered': True, 'done': 'rolled back'})
        ended = lost(core, 'crash', patch=sha256)
        assert (ended['state'], ended['error']['code']) == ('rolled-back', 'UNDONE'), ended
        assert ended['result']['done'] == 'rolled back'
        assert 'hvpatch_journal_recoveries_total 1\n' in core.metrics()


@case('worker-lost-behind-the-switch-APPLIED')
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('look', result=switched(sha256))
        ended = lost(core, 'crash', patch=sha256)
        assert (ended['state'], ended['error']) == ('applied', None), ended
        ended = lost(core, 'crash', 'revert', name='synth')
        assert ended['state'] == 'failed', ended
        core.script('look')
        assert lost(core, 'crash', 'revert', name='synth')['state'] == 'reverted'


@case('worker-and-recovery-lost-NEEDS-OPERATOR')
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('recover', do='crash')
        ended = lost(core, 'crash', patch=sha256)
        assert (ended['state'], ended['error']['code']) == ('needs-operator', 'INCONSISTENT')
        assert len(core.jobs('recover')) == 2
        core.script('recover', result=None, exit=7,
                    error={'code': 'INCONSISTENT', 'message': 'half of it'})
        assert lost(core, 'crash', patch=sha256)['state'] == 'needs-operator'
        core.script('recover', result=None, exit=1,
                    error={'code': 'VM_GONE', 'message': 'it has ended'})
        assert lost(core, 'crash', patch=sha256)['state'] == 'failed'


@case('recovery-busy-TRIED-AGAIN')
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('recover', result=None, exit=4, error={'code': 'BUSY', 'message': 'a keeper'})
        core.script('apply', do='crash')
        operation = core.start('web-1', 'apply', patch=sha256)
        until(lambda: len(core.jobs('recover')) == 2, 'second try')
        assert not core.operation(operation)['cancellable']
        core.script('recover')
        assert core.wait_end(operation)['state'] == 'failed'


@case('check-worker-lost-FAILED')
def _():
    with core_with() as core:
        ended = lost(core, 'crash', 'check', patch=core.upload())
        assert ended['state'] == 'failed' and not core.jobs('recover'), ended
        assert 'signal 11' in ended['error']['detail']


@case('worker-missing-FAILED')
def _():
    with core_with(environment={'HVPATCH_WORKER': '/nowhere/worker'}) as core:
        ended = core.wait_end(core.start('web-1', 'revert', name='hvp_patch'))
        assert (ended['state'], ended['error']['code']) == ('failed', 'INTERNAL'), ended
        # What no worker has looked at is not kept.
        refused('FAULT', core.upload)
        assert core.call('ListPatches', '')[0] == '[]'


@case('worker-that-looks-at-an-upload-crashes-or-lies-REFUSED')
def _():
    told = {'version': 1, 'name': 'hvp_patch', 'format': 'kpatch', 'functions': 1,
            'manifest': None}
    with core_with() as core:
        core.script('inspect', do='crash')
        refused('BAD_DATA', core.upload)
        for lie in ({'name': '../../etc/passwd'}, {'name': None}, {'format': 5},
                    {'name': 'x' * 99}):
            core.script('inspect', result={**told, **lie})
            refused('INTERNAL', core.upload)
        core.script('inspect', result={**told, 'manifest': {'cves': [5]}})
        refused('BAD_DATA', core.upload)
        core.script('inspect', result=None)
        refused('INTERNAL', core.upload)
        assert core.call('ListPatches', '')[0] == '[]'
        assert not [name for name in os.listdir(os.path.join(core.state, 'patches'))
                    if name.endswith('.ko')]


@case('long-result-ATTACHED')
def _():
    with core_with() as core:
        blockers = [{'pid': number, 'function': f'f{number % 5}', 'stack': ['x' * 200]}
                    for number in range(2000)]
        core.script('apply', attached=True, exit=4, error={'code': 'BUSY', 'message': 'b'},
                    result={'version': 1, 'result': 'busy', 'blockers': blockers})
        ended = core.wait_end(core.start('web-1', 'apply', patch=core.upload()))
        assert ended['state'] == 'failed' and ended['result']['shortened']
        assert len(ended['result']['blockers']) == 50
        assert 'hvpatch_blockers_total{function="f0"} 10' in core.metrics()


@case('flooding-worker-OTHERS-unharmed')
def _():
    with core_with(domains=['web-1', 'db-1'], environment={'HVPATCH_GRACE_MSEC': '4000'}) as core:
        sha256 = core.upload()
        core.script('web-1.apply', do='flood')
        flooding = core.start('web-1', 'apply', patch=sha256, options={'timeout': 0})
        until(lambda: core.jobs('apply'), 'job')
        slowest = 0.0
        for _ in range(50):
            begin = time.monotonic()
            core.domains()
            slowest = max(slowest, time.monotonic() - begin)
        assert slowest < 0.5, slowest
        assert core.wait_end(core.start('db-1', 'apply', patch=sha256))['state'] == 'applied'
        assert core.wait_end(flooding)['state'] == 'failed'
        told = [event for event in core.events()[0] if event['id'] == flooding['id']]
        assert len(told) < 60, len(told)


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {'a': value}
    return value


@case('result-that-API-refuses-REFUSED')
def _():
    with core_with() as core:
        sha256 = core.upload()
        for odd in (deep(12), {'a\nb': 1}, {'a"': [1]}, {'n': [{'x\\': 1}]}):
            core.script('check', attached=True, result={'version': 1, **odd})
            ended = core.wait_end(core.start('web-1', 'check', patch=sha256))
            assert (ended['state'], ended['result']) == ('failed', None), ended
        core.script('check', result={'version': 1, **deep(8), 'n': 1.5, 'b': [None, True, 'x\n']})
        assert core.wait_end(core.start('web-1', 'check', patch=sha256))['state'] == 'checked'


def long_look(reasons):
    return {'version': 1, 'info': {'backend': 'kvm', 'reasons': ['\x7f' * 1000] * reasons},
            'status': {'version': 1, 'patches': []}}


@case('long-look-core-STAYS')
def _():
    with core_with(domains=['web-1', 'web-2', 'web-3']) as core:
        core.script('look', attached=True, result=long_look(2500))
        for name in core.names:
            core.call('RefreshDomain', 's', core.uuid(name))
        until(lambda: all('more than' in ''.join(one['reasons']) for one in core.domains()),
              'end of the looks')
        assert not any(one['patchable'] for one in core.domains())
        core.script('look', result=long_look(30))
        core.call('RefreshDomain', 's', core.uuid('web-2'))
        until(lambda: core.domain('web-2')['backend'] == 'kvm', 'a look that fits')


@case('long-results-list-CUT', timeout=120)
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('check', attached=True, result={'version': 1, 'x': 'y' * 250000})
        for _ in range(70):
            newest = core.wait_end(core.start('web-1', 'check', patch=sha256))
        listed = core.operations(limit=1000)
        assert len(listed) < 70 and listed[0]['id'] == newest['id'], len(listed)
        assert len(core.operations(limit=20)) == 20


@case('long-results-oldest-DROPPED', timeout=120)
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('check', attached=True, result={'version': 1, 'x': 'y' * 261000})
        oldest = core.wait_end(core.start('web-1', 'check', patch=sha256))
        core.kill()
        folder = os.path.join(core.state, 'operations')
        with open(os.path.join(folder, oldest['id'] + '.json'), encoding='utf-8') as file:
            text = file.read()
        for _ in range(258):
            other = str(uuid.uuid4())
            later = oldest['created_at'].replace('20', '21', 1)
            with open(os.path.join(folder, other + '.json'), 'w', encoding='utf-8') as file:
                file.write(text.replace(oldest['id'], other).replace(oldest['created_at'], later))
        core.run()
        newest = core.wait_end(core.start('web-1', 'check', patch=sha256))
        for _ in range(2):
            assert core.operation(oldest)['state'] == 'checked'
            assert core.operation(oldest)['result'] is None and newest['result']
            core.kill()
            core.run()


# --- the daemon's own end ---

@case('core-killed-recovered-and-GOES-ON')
def _():
    with core_with(domains=['web-1', 'db-1', 'sql-1'], config='max-stopped=1\n') as core:
        sha256 = core.upload()
        core.script('apply', wait='go', progress=[{'state': 'switching', 'step': 'switching'}])
        core.script('check', wait='go')
        running = core.start('web-1', 'apply', patch=sha256)
        waiting = core.start('db-1', 'apply', patch=sha256, key='k')
        checking = core.start('sql-1', 'check', patch=sha256)
        core.wait_state(running, 'switching')
        until(lambda: core.jobs('check'), 'check')
        newest = core.events()[2]
        pids = [job['pid'] for job in core.jobs()]
        core.kill()
        until(lambda: not any(is_alive(pid) for pid in pids), 'end of the workers')
        core.script('recover', result={'version': 1, 'recovered': True, 'done': 'rolled back'})
        core.script('apply')
        core.run()
        assert core.wait_end(running)['state'] == 'rolled-back'
        assert core.wait_end(waiting)['state'] == 'applied'
        assert core.operation(checking)['state'] == 'failed'
        assert not core.start('db-1', 'apply', patch=sha256, key='k')['created']
        assert core.events()[1] > newest


@case('killed-again-and-again-CONVERGES', timeout=120)
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('apply', wait='never')
        core.script('recover', wait='never')
        operation = core.start('web-1', 'apply', patch=sha256)
        for count in range(1, 4):
            until(lambda count=count: len(core.jobs('apply') + core.jobs('recover')) == count,
                  'worker')
            core.kill()
            core.run()
        core.kill()
        core.script('recover')
        core.run()
        assert core.wait_end(operation)['state'] == 'failed'
        assert len(core.jobs('apply')) == 1


@case('cancelled-with-no-disk-NOT-DONE')
def _():
    with core_with(domains=['web-1', 'db-1'], config='max-stopped=1\n') as core:
        sha256 = core.upload()
        core.script('apply', wait='never')
        core.start('web-1', 'apply', patch=sha256)
        waiting = core.start('db-1', 'apply', patch=sha256)
        until(lambda: core.jobs('apply'), 'job')
        # No further descriptor: nothing can be written any more.
        resource.prlimit(core.process.pid, resource.RLIMIT_NOFILE, (3, 1024))
        core.call('CancelOperation', 's', waiting['id'])
        assert core.operation(waiting)['state'] == 'cancelled'
        core.kill()
        core.script('apply')
        core.run()
        refused('NOT_FOUND', core.operation, waiting)
        assert len(core.jobs('apply')) == 1


@case('descriptors-as-COUNTED', timeout=120.0)
def _():
    """As the comment at LimitNOFILE of the unit has it."""
    names = [f'vm-{number}' for number in range(64)]
    with core_with(domains=names, config='workers=64\nmax-stopped=64\n') as core, \
            concurrent.futures.ThreadPoolExecutor() as pool:
        def count():
            return len(os.listdir(f'/proc/{core.process.pid}/fd'))
        sha256 = core.upload()
        paths = [core.module(kind) for kind in ('', 'kpatch', 3, 4)]
        until(lambda: all(one['kernel'] for one in core.domains()), 'looks', 60)
        alone = count()
        assert alone <= 40, alone
        core.script('apply', wait='go')
        core.script('inspect', wait='go', result={'name': 'synth', 'format': 'klp'})
        operations = [core.start(name, 'apply', patch=sha256) for name in names]
        until(lambda: len(core.jobs('apply')) == 64, 'workers', 60)
        until(lambda: count() == alone + 64 * 2, f'{alone + 64 * 2} descriptors')
        before = len(core.jobs('inspect'))
        uploads = [pool.submit(core.upload_file, path) for path in paths]
        until(lambda: len(core.jobs('inspect')) == before + 4, 'uploads')
        assert count() <= alone + 64 * 2 + 4 * 5, count()
        core.go()
        for upload in uploads:
            upload.result(timeout=20)
        for operation in operations:
            core.wait_end(operation, 60)
        until(lambda: count() <= alone + 2, 'end of their descriptors')


@case('SIGTERM-DRAINS')
def _():
    with core_with(domains=['web-1', 'db-1'], config='max-stopped=1\ndrain=30\n') as core:
        sha256 = core.upload()
        core.script('apply', wait='go')
        running = core.start('web-1', 'apply', patch=sha256)
        waiting = core.start('db-1', 'apply', patch=sha256)
        until(lambda: core.jobs('apply'), 'job')
        core.terminate()
        until(lambda: not core.property('Ready'), 'drain')
        assert refused('UNAVAILABLE', core.start, 'db-1', 'recover')['status'] == 503
        assert core.operation(running)['state'] == 'checking'
        core.go()
        assert core.process.wait(timeout=10) == 0
        core.run()
        assert core.operation(running)['state'] == 'applied'
        assert core.wait_end(waiting)['state'] == 'applied'


@case('SIGTERM-twice-or-late-ENDS')
def _():
    with core_with(config='drain=1\n') as core:
        core.script('apply', wait='never')
        operation = core.start('web-1', 'apply', patch=core.upload())
        until(lambda: core.jobs('apply'), 'job')
        core.terminate()
        assert core.process.wait(timeout=5) == 0
        assert not is_alive(core.jobs('apply')[0]['pid'])
        core.run()
        assert core.wait_end(operation)['state'] == 'failed'
        begin = time.monotonic()
        core.terminate()
        core.terminate()
        assert core.process.wait(timeout=5) == 0 and time.monotonic() - begin < 1


@case('systemd-NOTIFIED')
def _():
    with Bus() as bus, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f'hvpatch-test-{os.getpid()}'
        listener.bind('\0' + name)
        listener.settimeout(10)
        with Core(bus, environment={'NOTIFY_SOCKET': '@' + name,
                                    'WATCHDOG_USEC': '200000'}) as core:
            seen = b''
            while b'READY=1' not in seen or b'WATCHDOG=1' not in seen:
                seen += listener.recv(4096) + b'\n'
            core.terminate()
            while b'STOPPING=1' not in seen:
                seen += listener.recv(4096) + b'\n'


@case('second-daemon-CONFLICT')
def _():
    with core_with() as core, Bus() as other:
        result = subprocess.run([build_file('hv-patcher', 'hvpatchd'), '--config', core.config],
                                env={**os.environ, 'HVPATCH_BUS': other.address}, timeout=20,
                                capture_output=True, text=True, check=False)
        assert result.returncode == 5 and 'another hvpatchd' in result.stderr, result
        result = subprocess.run([build_file('hv-patcher', 'hvpatchd'), '--config', core.config,
                                 '--state', os.path.join(core.folder, 'other')],
                                env={**os.environ, 'HVPATCH_BUS': core.bus.address}, timeout=20,
                                capture_output=True, text=True, check=False)
        assert result.returncode == 1 and 'org.hvpatch1' in result.stderr, result


@case('damaged-state-OTHERS-seen')
def _():
    with core_with() as core:
        sha256 = core.upload()
        operation = core.wait_end(core.start('web-1', 'apply', patch=sha256))
        core.kill()
        folder = os.path.join(core.state, 'operations')
        with open(os.path.join(folder, operation['id'] + '.json'), encoding='utf-8') as file:
            text = file.read()
        for name, content in ((str(uuid.uuid4()), text), (str(uuid.uuid4()), text[:100]),
                              (str(uuid.uuid4()), ''), ('x', '{}')):
            with open(os.path.join(folder, name + '.json'), 'w', encoding='utf-8') as file:
                file.write(content)
        with open(os.path.join(core.state, 'patches', 'f' * 64 + '.json'), 'wb') as file:
            file.write(b'\0' * 10)
        core.run()
        assert [one['id'] for one in core.operations()] == [operation['id']]
        assert len(json.loads(core.call('ListPatches', '')[0])) == 1


@case('bus-gone-ENDS')
def _():
    with Bus() as bus, Core(bus) as core:
        bus.process.kill()
        assert core.process.wait(timeout=10) == 1


if __name__ == '__main__':
    suite.main()
