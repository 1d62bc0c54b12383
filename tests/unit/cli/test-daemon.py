#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line over the daemon: test-daemon.py HVPATCH FAKE-CORE MAKE-PATCH-SEEDS

Each case has a bus of its own and, but for those without a daemon, a scripted one on it, which
asserts the exact requests and fails on any other.
"""

import ast
import contextlib
import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'guest-agent'))
from cases import Skip, run_cases  # pylint: disable=wrong-import-position

PATIENCE_SECONDS = 20
UUID = '5c0e7b4e-0000-4000-8000-000000000001'
ID = '0f9b3c8a-0000-4000-8000-00000000000a'
DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK, OPERATOR = range(8)
FUNCTION = {'object': 'vmlinux', 'name': 'f', 'old': '0xffffffff81000000',
            'new': '0xffffffffc0000000', 'site': '0xffffffff81000009'}
PAUSE = {f'{step}_usec': number for number, step in enumerate(
    ('stop', 'registers', 'sweep', 'rewalk', 'switch', 'resume'))}
APPLIED = {'version': 1, 'operation': 'apply', 'result': 'applied', 'code': None, 'message': None,
           'domain': 'web', 'kernel': '6.1.0-1', 'patch': 'fix', 'sha256': 'ab' * 32,
           'functions': [FUNCTION], 'tasks': 123, 'rechecked': 4, 'attempts': 1, 'stops': 1,
           'pause_usec': 85, 'pause': PAUSE, 'total_usec': 1300000, 'blockers': []}
BLOCKER = {'pid': 1, 'comm': 'init', 'kthread': False, 'function': 'f', 'reason': 'ACTIVE',
           'stack': ['f+0x10/0x40', 'g+0x2/0x8']}
IN_THE_WAY = {**APPLIED, 'result': 'busy', 'code': 'BUSY', 'message': '1 task is in the way',
              'functions': [], 'blockers': [BLOCKER]}
PATCH = {'name': 'fix', 'sha256': 'ab' * 32, 'applied_at': '2026-11-29T10:00:00Z',
         'functions': [FUNCTION], 'objects': [{'object': 'vmlinux', 'covered': 'yes'}],
         'verified': True, 'state': 'switched', 'why': '', 'cves': ['CVE-2026-1']}
DOMAIN = {'version': 1, 'uuid': UUID, 'name': 'web', 'state': 'running', 'kernel': None,
          'backend': None, 'patchable': None, 'reasons': [], 'patches': [], 'operation': None,
          'seen_at': None}


def quoted(document):
    """As a string in GVariant's text form."""
    return json.dumps(document if isinstance(document, str) else json.dumps(document))


def step(method, *values, **more):
    """The answer with VALUES, which are in GVariant's text form."""
    comma = ',' if len(values) == 1 else ''
    return {'method': method, 'reply': f'({", ".join(values)}{comma})', **more}


def operation(state, **members):
    return {'version': 1, 'id': ID, 'domain': UUID, 'domain_name': 'web', 'verb': 'apply',
            'patch': None, 'name': 'fix', 'state': state, 'step': '', 'attempt': 0, 'blockers': 0,
            'principal': 'uid:0', 'created_at': '2026-11-29T10:00:00Z', 'error': None,
            'result': None, **members}


LIST = step('ListDomains', quoted([{**DOMAIN, 'name': 'other', 'uuid': UUID[:-1] + '2'}, DOMAIN]))
UPLOAD = step('UploadPatch', quoted({'version': 1}), 'true')
BEGIN = step('StartOperation', quoted(operation('queued')), 'true')
CANCEL = step('CancelOperation', quoted(operation('waiting')))


def ended(state, **members):
    return step('GetOperation', quoted(operation(state, **members)))


@contextlib.contextmanager
def bus():
    """The address of one of the case's own."""
    if not shutil.which('dbus-daemon'):
        raise Skip('dbus-daemon is missing')
    with subprocess.Popen(['dbus-daemon', '--session', '--nofork', '--print-address'],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.kill()


class Core:
    """A scripted daemon; calls: what it was asked, as (method, arguments, digest of a file)."""

    def __init__(self, program, address, script):
        with tempfile.NamedTemporaryFile('w', suffix='.json', delete=False) as stream:
            json.dump(script, stream)
        self._path = stream.name
        self._process = subprocess.Popen([program, address, self._path], stdout=subprocess.PIPE,
                                         text=True)
        assert self._process.stdout.readline() == 'ready\n'
        self.calls = []

    def read_call(self):
        line = self._process.stdout.readline().rstrip('\n')
        method, rest = line.split(' ', 1)
        assert method != 'UNEXPECTED', line
        arguments, digest = rest.rsplit(' ', 1)
        self.calls.append((method, ast.literal_eval(arguments), digest))
        return method

    def stop(self):
        self._process.kill()
        for line in self._process.stdout:
            assert not line.startswith('UNEXPECTED'), line
            method, rest = line.rstrip('\n').split(' ', 1)
            arguments, digest = rest.rsplit(' ', 1)
            self.calls.append((method, ast.literal_eval(arguments), digest))
        self._process.stdout.close()
        self._process.wait()
        os.unlink(self._path)

    @property
    def methods(self):
        return [method for method, _, _ in self.calls]


class Setup:
    """A bus with a scripted daemon, and hvpatch at it."""

    def __init__(self, programs, address, script):
        self.program, core, seeds = programs
        self.folder = tempfile.mkdtemp(prefix='hvp-')
        subprocess.run([seeds, self.folder], check=True, stdout=subprocess.DEVNULL)
        # Any livepatch module will do.
        self.patch = next(path for name in sorted(os.listdir(self.folder))
                          if subprocess.run([self.program, 'check', path := os.path.join(
                              self.folder, name)], capture_output=True, text=True,
                              check=False).stderr.startswith('hvpatch: check: which VM?'))
        self.core = Core(core, address, script) if script is not None else None
        self.environment = {**os.environ, 'HVPATCH_BUS': address, 'LIBVIRT_DEFAULT_URI': ''}

    def command(self, *arguments, output='json'):
        return [self.program, '-d', 'web', '-o', output, *arguments]

    def run(self, *arguments, output='json', command=None):
        return subprocess.run(command or self.command(*arguments, output=output),
                              capture_output=True, text=True, env=self.environment, check=False,
                              timeout=PATIENCE_SECONDS)

    def close(self):
        if self.core:
            self.core.stop()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def setup(programs, script):
    with bus() as address:
        made = Setup(programs, address, script)
        try:
            yield made
        finally:
            made.close()


def case_apply_DONE_json_as_it_is(*programs):
    script = [LIST, UPLOAD, BEGIN, ended('waiting'), ended('applied', result=APPLIED)]
    with setup(programs, script) as made:
        with open(made.patch + '.minisig', 'w') as stream:
            stream.write('untrusted comment: x\n')
        result = made.run('apply', made.patch, '--timeout', '5', '--max-pause', '0.5', '--no-prod',
                          '--no-replace', '--accept', 'guard', '--kthreads', 'parked=a*,b')
        assert result.returncode == DONE, result
        assert json.loads(result.stdout) == APPLIED
        assert result.stdout == json.dumps(APPLIED, separators=(',', ':')) + '\n', result.stdout
        assert result.stderr == '', result.stderr
    (_, listed, _), (_, uploaded, digest), (_, started, _) = made.core.calls[:3]
    assert listed == ('',)
    assert uploaded[:2] == ('', 0) and bytes(uploaded[2]) == b'untrusted comment: x\n', uploaded
    assert started[:2] == ('', UUID) and len(started[3]) == 36, started
    assert json.loads(started[2]) == {
        'verb': 'apply', 'patch': digest, 'options': {
            'timeout': 5, 'max_pause': 0.5, 'prod': False, 'replace': False,
            'kthreads': 'parked=a*,b', 'accept': ['guard']}}
    assert made.core.methods[3:] == ['GetOperation'] * 2, made.core.methods


def case_apply_uploads_what_it_looked_at(*programs):
    with setup(programs, [LIST, UPLOAD, BEGIN, ended('applied', result=APPLIED)]) as made:
        with open(made.patch, 'rb') as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
        made.run('apply', made.patch)
    assert made.core.calls[1][2] == digest
    assert json.loads(made.core.calls[2][1][2]) == {'verb': 'apply', 'patch': digest,
                                                    'options': {}}


def case_apply_says_what_is_as_if_nothing_was_said(*programs):
    """One attempt is no default, and neither is the operator's word against the module's own."""
    with setup(programs, [LIST, UPLOAD, BEGIN, ended('applied', result=APPLIED)]) as made:
        made.run('apply', made.patch, '--timeout', '0', '--kthreads', 'any')
    assert json.loads(made.core.calls[2][1][2])['options'] == {'timeout': 0, 'kthreads': 'any'}


def case_apply_table(*programs):
    with setup(programs, [LIST, UPLOAD, BEGIN, ended('applied', result=APPLIED)]) as made:
        result = made.run('apply', made.patch, output='table')
    assert result.returncode == DONE and result.stderr == '', result
    assert result.stdout == (
        'applied fix: paused 85 us, 1.30 s in all; 123 tasks, 1 attempt\n'
        'OBJECT  FUNCTION OLD                NEW                SITE\n'
        'vmlinux f        0xffffffff81000000 0xffffffffc0000000 0xffffffff81000009\n'), result


def case_apply_BUSY_names_tasks(*programs):
    for output in ('json', 'table'):
        with setup(programs, [LIST, UPLOAD, BEGIN, ended('failed', result=IN_THE_WAY)]) as made:
            result = made.run('apply', made.patch, output=output)
        assert result.returncode == BUSY, result
        if output == 'json':
            assert json.loads(result.stdout) == IN_THE_WAY and result.stderr == '', result
            continue
        assert result.stderr == 'hvpatch: 1 task is in the way\n', result
        assert result.stdout == ('PID COMM KIND REASON FUNCTION\n'
                                 '  1 init user ACTIVE f\n'
                                 '    f+0x10/0x40\n    g+0x2/0x8\n'), result.stdout


def case_domain_as_the_user_named_it_where_it_was_not_reached(*programs):
    failed = {**IN_THE_WAY, 'code': 'CONFLICT', 'message': 'the VM is paused', 'kernel': None,
              'domain': UUID, 'blockers': []}
    with setup(programs, [LIST, UPLOAD, BEGIN, ended('failed', result=failed)]) as made:
        result = made.run('apply', made.patch)
    assert json.loads(result.stdout) == {**failed, 'domain': 'web'}, result
    assert result.returncode == REFUSED


def case_operation_without_a_result_shows_its_error(*programs):
    problem = {'type': 'urn:hvpatch:error:INCONSISTENT', 'title': 'x', 'status': 500,
               'code': 'INCONSISTENT', 'detail': 'the worker died'}
    with setup(programs, [LIST, BEGIN, ended('needs-operator', error=problem)]) as made:
        result = made.run('revert', 'fix')
    said = json.loads(result.stdout)
    assert result.returncode == OPERATOR, result
    assert said['operation'] == 'revert' and said['code'] == 'INCONSISTENT', said
    assert said['message'] == 'the worker died' and said['domain'] == 'web', said
    assert json.loads(made.core.calls[1][1][2]) == {'verb': 'revert', 'name': 'fix',
                                                    'options': {}}


def case_codes_are_exit_statuses(*programs):
    for code, status, shown in (('FORBIDDEN', REFUSED, 'PERMISSION'), ('BUSY', BUSY, 'BUSY'),
                                ('UNAUTHENTICATED', REFUSED, 'PERMISSION'),
                                ('TOO_MANY', BUSY, 'BUSY'), ('UNAVAILABLE', BUSY, 'BUSY'),
                                ('GONE', FAILED, 'NOT_FOUND'), ('NOT_FOUND', FAILED, 'NOT_FOUND'),
                                ('CONFLICT', REFUSED, 'CONFLICT'), ('NEW', FAILED, 'INTERNAL')):
        problem = json.dumps({'code': code, 'detail': 'may not', 'title': 't', 'status': 1})
        script = [LIST, {'method': 'StartOperation', 'error': code, 'message': problem}]
        with setup(programs, script) as made:
            result = made.run('recover')
        assert result.returncode == status, (code, result)
        assert json.loads(result.stdout) == {'version': 1, 'code': shown,
                                             'message': 'may not'}, result


def case_FORBIDDEN_to_look_is_said_and_not_gone_round(*programs):
    script = [{'method': 'ListDomains', 'error': 'FORBIDDEN', 'message': 'no problem document'}]
    with setup(programs, script) as made:
        result = made.run('apply', made.patch, output='table')
    assert result.returncode == REFUSED and result.stdout == '', result
    assert result.stderr == 'hvpatch: no problem document\n', result


def case_check_table_and_json(*programs):
    document = {'version': 1, 'applicable': False, 'already_applied': False, 'code': 'UNSUPPORTED',
                'message': 'vermagic: another kernel', 'format': 'kpatch',
                'items': [{'item': 'vermagic', 'ok': False, 'accepted': False, 'why': 'another'},
                          {'item': 'room', 'ok': True, 'accepted': False, 'why': ''},
                          {'item': 'signature', 'ok': False, 'accepted': True, 'why': 'none'}],
                'functions': [{**FUNCTION, 'new': None}], 'replace': None}
    script = [LIST, UPLOAD, BEGIN, ended('checked', result=document)]
    with setup(programs, script) as made:
        result = made.run('check', made.patch)
    assert result.returncode == NOT_APPLICABLE and json.loads(result.stdout) == document, result
    with setup(programs, script) as made:
        result = made.run('check', made.patch, output='table')
    assert result.returncode == NOT_APPLICABLE, result
    assert result.stdout.splitlines() == [
        'ITEM      OK       WHY', 'vermagic  no       another', 'room      ok',
        'signature accepted none', '', 'OBJECT  FUNCTION OLD                SITE',
        'vmlinux f        0xffffffff81000000 0xffffffff81000009'], result.stdout
    assert result.stderr == 'hvpatch: vermagic: another kernel\n', result


def case_recover(*programs):
    done = 'an interrupted apply of fix was rolled back'
    document = {'version': 1, 'recovered': True, 'done': done}
    for output, shown in (('table', done + '\n'),
                          ('json', json.dumps(document, separators=(',', ':')) + '\n')):
        with setup(programs, [LIST, BEGIN, ended('recovered', result=document)]) as made:
            result = made.run('recover', output=output)
        assert result.returncode == DONE and result.stdout == shown, result


def status_script(domain, seen_at):
    seen = {**DOMAIN, **domain, 'seen_at': seen_at}
    other = {'seq': 8, 'at': 'x', 'type': 'domain', 'id': 'other', 'document': {}}
    event = {'seq': 9, 'at': 'x', 'type': 'domain', 'id': UUID, 'document': seen}
    before = {**event, 'seq': 8, 'document': {**seen, 'seen_at': '2001-01-01T00:00:00Z'}}
    return [LIST, step('GetEvents', '"[]"', 'uint64 1', 'uint64 7'),
            step('RefreshDomain', quoted(seen)),
            step('GetEvents', quoted([other, before]), 'uint64 1', 'uint64 8'),
            step('GetEvents', quoted([event]), 'uint64 1', 'uint64 9')]


def case_status_is_a_new_look(*programs):
    kernel = {'release': '6.1', 'version': 'x', 'build_id': 'y'}
    script = status_script({'kernel': kernel, 'patches': [PATCH]}, '2999-01-01T00:00:00Z')
    expected = {key: value for key, value in PATCH.items() if key != 'cves'}
    with setup(programs, script) as made:
        result = made.run('status')
    assert result.returncode == DONE, result
    assert result.stdout == json.dumps({'version': 1, 'patches': [expected]},
                                       separators=(',', ':')) + '\n', result.stdout
    assert [call[1][1] for call in made.core.calls if call[0] == 'GetEvents'][1:] == [7, 8]
    with setup(programs, script) as made:
        result = made.run('status', output='table')
    assert result.stdout.splitlines()[1].split() == [
        'fix', '2026-11-29T10:00:00Z', 'yes', 'switched', 'vmlinux:', 'yes', 'f',
        'ab' * 32], result.stdout


def case_status_of_what_cannot_be_looked_into(*programs):
    """In the words of the worker, or of libvirt where there is nothing to look into."""
    problem = {'code': 'PERMISSION', 'detail': 'no monitor', 'status': 403, 'title': 'x'}
    look = {'kernel': None, 'patches': None, 'patchable': False, 'reasons': ['no monitor'],
            'error': problem}
    with setup(programs, status_script(look, None)) as made:
        says_why(made.run('status'), REFUSED, 'PERMISSION', 'no monitor')
    off = [step('ListDomains', quoted([{**DOMAIN, 'state': 'shut off'}]))]
    with setup(programs, off) as made:
        says_why(made.run('status'), REFUSED, 'CONFLICT', f'domain {DOMAIN["name"]} is shut off')


def says_why(result, exit_status, code, message):
    assert result.returncode == exit_status, result
    assert json.loads(result.stdout) == {'version': 1, 'code': code, 'message': message}, result


def case_status_TAMPERED_needs_an_operator(*programs):
    patch = {**PATCH, 'verified': False, 'state': 'tampered', 'why': 'other bytes'}
    kernel = {'release': '6.1', 'version': 'x', 'build_id': 'y'}
    script = status_script({'kernel': kernel, 'patches': [patch]}, '2999-01-01T00:00:00Z')
    with setup(programs, script) as made:
        assert made.run('status').returncode == OPERATOR


def read_all(master):
    """Of a terminal that nobody writes to any more."""
    said = b''
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 65536):
            said += chunk
    return said


def case_progress_on_a_terminal(*programs):
    waiting = ended('waiting', step='proving', attempt=3, blockers=2)
    script = [LIST, UPLOAD, BEGIN, waiting, ended('applied', result=APPLIED)]
    with setup(programs, script) as made:
        master, slave = pty.openpty()
        result = subprocess.run(made.command('apply', made.patch), stdout=subprocess.PIPE,
                                stderr=slave, env=made.environment, check=False,
                                timeout=PATIENCE_SECONDS)
        os.close(slave)
        said = read_all(master).decode()
        os.close(master)
    assert result.returncode == DONE, result
    assert 'proving, attempt 3, 2 tasks in the way' in said, said
    assert said.endswith('\r'), said


def start_and_interrupt(made, calls, number=signal.SIGINT):
    """hvpatch, interrupted when the daemon has been called for the last of CALLS."""
    process = subprocess.Popen(made.command('apply', made.patch), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=made.environment)
    while made.core.read_call() != calls:
        pass
    process.send_signal(number)
    return process


def case_interrupt_CANCELS_before_the_commit(*programs):
    for number in (signal.SIGINT, signal.SIGTERM):
        script = [LIST, UPLOAD, BEGIN, ended('waiting') | {'repeat': True},
                  CANCEL, ended('waiting'), ended('cancelled')]
        with setup(programs, script) as made:
            process = start_and_interrupt(made, 'GetOperation', number)
            stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == -number, (process.returncode, stderr)
        assert stdout == '' and stderr == f'hvpatch: operation {ID} was cancelled\n', stderr
        assert ('CancelOperation', ('', ID), '') in made.core.calls


def case_interrupt_behind_the_commit_waits_for_the_end(*programs):
    problem = json.dumps({'code': 'CONFLICT', 'detail': 'it is switched', 'title': 't'})
    script = [LIST, UPLOAD, BEGIN, ended('switching') | {'repeat': True},
              {'method': 'CancelOperation', 'error': 'CONFLICT', 'message': problem},
              ended('verifying'), ended('applied', result=APPLIED)]
    with setup(programs, script) as made:
        process = start_and_interrupt(made, 'GetOperation')
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == DONE and json.loads(stdout) == APPLIED, stderr
    assert stderr == f'hvpatch: operation {ID} is not cancelled: it is switched\n', stderr


def case_second_interrupt_leaves_the_operation_alone(*programs):
    script = [LIST, UPLOAD, BEGIN, ended('switching') | {'repeat': True},
              CANCEL, ended('switching') | {'repeat': True}]
    with setup(programs, script) as made:
        process = start_and_interrupt(made, 'GetOperation')
        while made.core.read_call() != 'CancelOperation':
            pass
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGINT and stdout == '', process.returncode
    assert stderr == f'hvpatch: operation {ID} goes on\n', stderr


def case_daemon_that_dies_is_waited_for(*programs):
    script = [LIST, UPLOAD, BEGIN, {'method': 'GetOperation', 'dies': True}]
    with setup(programs, script) as made:
        process = subprocess.Popen(made.command('apply', made.patch), stdout=subprocess.PIPE,
                                   text=True, env=made.environment)
        while made.core.read_call() != 'GetOperation':
            pass
        made.core.stop()
        time.sleep(0.5)
        rolled_back = {**IN_THE_WAY, 'result': 'rolled-back', 'code': 'UNDONE'}
        made.core = Core(programs[1], made.environment['HVPATCH_BUS'],
                         [ended('rolled-back', result=rolled_back)])
        stdout, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == ROLLED_BACK and json.loads(stdout) == rolled_back, stdout


def is_by_itself(made, result, message="libvirt"):
    """It was not over the daemon: what failed is the way to a VM of its own."""
    assert result.returncode not in (DONE, USAGE), result
    assert made.core is None or made.core.methods in ([], ['ListDomains']), made.core.methods
    return message in result.stderr + result.stdout


def case_no_daemon_changes_nothing(*programs):
    with setup(programs, None) as made:
        plain = {**made.environment, 'HVPATCH_BUS': 'unix:path=/nonexistent/bus'}
        for arguments in (('apply', made.patch), ('check', made.patch), ('revert', 'x'),
                          ('status',), ('recover',)):
            started = time.monotonic()
            result = made.run(*arguments)
            took = time.monotonic() - started
            made.environment, kept = plain, made.environment
            without_bus = made.run(*arguments)
            made.environment = kept
            assert (result.returncode, result.stdout) == (
                without_bus.returncode, without_bus.stdout), (result, without_bus)
            assert took < 5, took


def case_own_ways_are_gone_without_the_daemon(*programs):
    for option in (('--direct',), ('--backend', 'kvm'), ('--trap', 'spin'),
                   ('--agent', 'none'), ('--oracle', 'none'), ('--monitor',)):
        with setup(programs, []) as made:
            command = [made.program, '-d', 'web', '-o', 'json', *option, 'status']
            is_by_itself(made, made.run(command=command))
        assert made.core.methods == [], (option, made.core.methods)


def case_domain_that_the_daemon_does_not_know(*programs):
    with setup(programs, [step('ListDomains', '"[]"')]) as made:
        is_by_itself(made, made.run('status'))
        made.core.read_call()
    assert made.core.methods == ['ListDomains']


def case_manifest_that_the_daemon_is_not_told(*programs):
    with setup(programs, []) as made:
        with open(os.path.splitext(made.patch)[0] + '.hvpatch.json', 'w') as stream:
            json.dump({'kthreads': 'refuse', 'standing': ['f']}, stream)
        is_by_itself(made, made.run('apply', made.patch))
    assert made.core.methods == [], made.core.methods


def case_broken_patch_is_refused_before_it_is_uploaded(*programs):
    with setup(programs, []) as made:
        with open(made.patch, 'w') as stream:
            stream.write('no module')
        for verb in ('check', 'apply'):
            result = made.run(verb, made.patch)
            assert made.patch in json.loads(result.stdout)['message'], result
    assert made.core.methods == []


def case_nonsense_is_BAD_DATA_not_a_crash(*programs):
    for reply in ('"{"', '"[1, null, {}]"', '"7"', '"null"', '"{}"'):
        with setup(programs, [step('ListDomains', reply)]) as made:
            result = made.run(command=[made.program, 'domains'])
            assert result.returncode in (DONE, FAILED), result
    for reply in ('"{}"', '"[]"', '"7"', '"{\\"id\\": 7}"'):
        with setup(programs, [LIST, step('StartOperation', reply, 'true')]) as made:
            result = made.run('recover')
            assert result.returncode == FAILED, result
            assert json.loads(result.stdout)['code'] == 'BAD_DATA', result


def case_domains(*programs):
    domain = {**DOMAIN, 'kernel': {'release': '6.1.0-1', 'version': '', 'build_id': ''},
              'patchable': False, 'reasons': ['no monitor', 'no BTF'], 'patches': [PATCH],
              'operation': ID}
    with setup(programs, [step('ListDomains', quoted([domain]), repeat=True)]) as made:
        result = made.run(command=[made.program, '-o', 'json', 'domains'])
        assert json.loads(result.stdout) == {'version': 1, 'domains': [domain]}, result
        result = made.run(command=[made.program, 'domains'])
    assert result.stdout.splitlines()[1].split() == [
        'web', UUID, 'running', '6.1.0-1', 'fix', 'no:', 'no', 'monitor;', 'no', 'BTF', ID]


def case_operations(*programs):
    problem = {'code': 'BUSY', 'detail': 'in the way'}
    one = operation('failed', error=problem)
    script = [step('ListOperations', quoted([one, operation('queued')]), repeat=True),
              step('GetOperation', quoted(one), repeat=True)]
    with setup(programs, script) as made:
        result = made.run(command=[made.program, '-o', 'json', 'operations'])
        assert len(json.loads(result.stdout)['operations']) == 2, result
        result = made.run(command=[made.program, 'operations'])
        assert result.stdout.splitlines()[1].split() == [
            ID, 'web', 'apply', 'fix', 'failed', '2026-11-29T10:00:00Z', 'uid:0', 'in', 'the',
            'way'], result
        result = made.run(command=[made.program, '-o', 'json', 'operations', ID])
        assert json.loads(result.stdout) == one, result
        result = made.run(command=[made.program, 'operations', '--watch'])
        assert result.returncode == USAGE, result


def case_operations_watch_until_the_end(*programs):
    script = [ended('queued'), ended('waiting', step='proving'), ended('waiting', step='proving'),
              ended('applied')]
    with setup(programs, script) as made:
        result = made.run(command=[made.program, 'operations', ID, '--watch'])
    assert result.stdout == 'queued\nwaiting: proving\napplied\n', result


def case_events(*programs):
    events = [{'seq': number, 'at': 't', 'type': 'operation', 'id': ID,
               'document': operation('queued')} for number in (4, 5)]
    none = step('GetEvents', '"[]"', 'uint64 4', 'uint64 5')
    script = [step('GetEvents', quoted(events), 'uint64 4', 'uint64 5'), none]
    with setup(programs, script * 2) as made:
        result = made.run(command=[made.program, '-o', 'json', 'events', '--since', '3'])
        assert [json.loads(line) for line in result.stdout.splitlines()] == events, result
        result = made.run(command=[made.program, 'events'])
        assert result.stdout == f't operation {ID} web apply fix queued\n' * 2, result
        assert result.stderr == ''
    assert made.core.calls[0][1] == ('', 3, 500)


def case_events_followed_and_the_lost_ones_named(*programs):
    def event(number):
        return {'seq': number, 'at': 't', 'type': 'daemon', 'id': 'x', 'document': {}}
    script = [step('GetEvents', quoted([event(4)]), 'uint64 4', 'uint64 4'),
              step('GetEvents', quoted([event(9)]), 'uint64 9', 'uint64 9'),
              {'method': 'GetEvents', 'dies': True}]
    with setup(programs, script) as made:
        result = made.run(command=[made.program, 'events', '-f'])
    assert result.stdout == 't daemon x\nt daemon x\n', result
    assert 'events 5 to 8 are lost' in result.stderr and result.returncode == BUSY, result


def case_without_a_daemon_there_is_nothing_to_list(*programs):
    with setup(programs, None) as made:
        for command in ('domains', 'operations', 'events'):
            result = made.run(command=[made.program, command])
            assert result.returncode == FAILED and result.stdout == '', result
            assert result.stderr == 'hvpatch: hvpatchd does not run\n', result
            result = made.run(command=[made.program, '-d', 'web', command])
            assert result.returncode == USAGE, result


def recover_all(programs, journal, *options):
    """In a mount namespace, where JOURNAL is all that there is of journals."""
    if os.geteuid() != 0 or not shutil.which('unshare'):
        raise Skip('unshare and to be root are needed')
    script = ('mount -t tmpfs none /run && mkdir /run/hvpatch && printf "$2" > "$1" && '
              'shift 2 && "$@"')
    return subprocess.run(['unshare', '-m', 'sh', '-c', script, 'sh', f'/run/hvpatch/{journal}',
                           '' if journal == 'empty' else 'x', programs[0], *options, 'recover',
                           '--all'],
                          capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


def case_recover_all_asks_nobody_where_nothing_is_left(*programs):
    result = recover_all(programs, 'empty', '-c', 'nonsense:///')
    assert result.returncode == DONE and result.stdout == 'nothing to recover\n', result
    # Of a process that has ended.
    result = recover_all(programs, '999999-1.journal', '-c', 'nonsense:///', '-o', 'json')
    assert json.loads(result.stdout) == {'version': 1, 'domains': []}, result


def case_recover_all_names_what_is_no_domain(*programs):
    with open('/proc/self/stat') as stream:
        started = stream.read().rsplit(')', 1)[1].split()[19]
    journal = f'{os.getpid()}-{started}.journal'
    result = recover_all(programs, journal, '-c', 'test:///default', '-o', 'json')
    domain, = json.loads(result.stdout)['domains']
    assert domain['pid'] == os.getpid() and domain['domain'] is None, domain
    assert domain['code'] == 'UNSUPPORTED' and domain['recovered'] is False, domain
    assert result.returncode == NOT_APPLICABLE, result
    result = recover_all(programs, journal, '-c', 'test:///default')
    assert result.stderr.startswith(f'hvpatch: process {os.getpid()}: it is no domain'), result
    result = recover_all(programs, journal, '-c', 'nonsense:///')
    assert result.returncode not in (DONE, USAGE) and result.stdout == '', result


def case_recover_all_and_one_exclude_each_other(*programs):
    result = subprocess.run([programs[0], '-d', 'web', 'recover', '--all'], capture_output=True,
                            text=True, check=False)
    assert result.returncode == USAGE, result


if __name__ == '__main__':
    sys.exit(run_cases(globals(), *sys.argv[1:]))
