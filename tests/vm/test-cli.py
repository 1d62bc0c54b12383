#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: misuse, each error that a user meets, and what scripts may rely on.

Every error has its exit status, one line on stderr that names the thing, and leaves the VM, the
guest's text and its modules as they were. What apply and revert do when they work is in
test-apply.py.
"""

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import time

from guest import LIVEPATCH_NOTES, ROOT, Guest, die_with_parent, eventually, hvpatch_path
from tap import Skip, Suite

BOTH = ('6.1', '6.12')
suite = Suite(*BOTH)

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, OPERATOR = 0, 1, 2, 3, 4, 5, 7
VM_COMMANDS = ('info', 'tasks', 'check', 'apply', 'revert', 'status', 'blocking', 'recover')
COMMANDS = (*VM_COMMANDS, 'list', 'install', 'uninstall', 'watch', 'doctor', 'rehearse', 'domains',
            'operations', 'events')
# How long commands on a socket where nobody answers may take.
NO_ANSWER_SECONDS = 40
# The 1 s and 100 ms, with room for a busy host, which is asked some times.
FIRST_ATTACH_USEC, CACHED_ATTACH_USEC = 4_000_000, 1_000_000
# Blocks of 512 bytes that a guest may touch by itself beyond what it did in an idle second.
GROWTH_BLOCKS = 4096
OLD_NAME = 'cmdline_proc_show'

HEX = re.compile(r'0x[0-9a-f]+')
TEXT = re.compile(r'(?s).+')
FUNCTION = {'object': TEXT, 'name': TEXT, 'old': HEX, 'new': (HEX, None), 'site': HEX}
BLOCKER = {'pid': int, 'comm': str, 'kthread': bool, 'function': TEXT,
           'reason': {'ACTIVE', 'UNRELIABLE', 'POLICY'}, 'stack': [TEXT]}
FRAME = {'pc': HEX, 'symbol': str, 'offset': HEX, 'size': HEX, 'module': str}
PAUSE = {f'{step}_usec': int
         for step in ('stop', 'registers', 'sweep', 'rewalk', 'switch', 'resume')}
RESULT = {
    'version': {1}, 'operation': {'apply', 'revert'},
    'result': {'applied', 'reverted', 'busy', 'refused', 'failed', 'rolled-back'},
    'code': (re.compile('[A-Z_]+'), None), 'message': (TEXT, None), 'domain': (TEXT, None),
    'kernel': (TEXT, None), 'patch': (TEXT, None), 'sha256': (re.compile('[0-9a-f]{64}'), None),
    'functions': [FUNCTION], 'tasks': int, 'rechecked': int, 'attempts': int, 'stops': int,
    'pause_usec': int, 'pause': PAUSE, 'total_usec': int, 'blockers': [BLOCKER]}
TASK = {'pid': int, 'tgid': int, 'comm': str, 'kthread': bool, 'state': re.compile('[A-Z]'),
        'cpu': int, 'on_cpu': bool, 'verdict': {'RELIABLE', 'UNRELIABLE'}, 'reason': str,
        'stack': [FRAME]}
CLAIM = {'state': TEXT, 'comm': str, 'voluntary': int, 'involuntary': int, 'wchan': str,
         'verdict': {'agrees', 'stale', 'doubtful', 'false'}}
SCHEMAS = {
    'info': {'version': {1}, 'tasks': int, 'backend': {'gdbstub', 'core', 'kvm'},
             'backend_reason': TEXT,
             'kernel': {'release': TEXT, 'version': TEXT,
                        'build_id': re.compile('[0-9a-f]{40}'), 'text_base': HEX},
             'vcpus': [{'index': int, 'state': {'kernel', 'user', 'idle', 'off'}, 'pid': int,
                        'comm': str}],
             'patchable': bool, 'reasons': [TEXT], 'attach_usec': int, 'cached': bool,
             'connect_usec': int},
    'tasks': {'version': {1}, 'tasks': [TASK], 'attach_usec': int, 'sweep_usec': int},
    'kthreads': {'version': {1}, 'tasks': [{**TASK, 'kthread_state': TEXT, 'agent': (CLAIM, None)}],
                 'attach_usec': int, 'sweep_usec': int},
    'check': {'version': {1}, 'applicable': bool, 'already_applied': bool, 'code': (TEXT, None),
              'message': (TEXT, None), 'format': {'kpatch', 'klp-build', 'klp'},
              'items': [{'item': TEXT, 'ok': bool, 'accepted': bool, 'why': str}],
              'functions': [FUNCTION], 'replace': (bool, None)},
    'apply': RESULT, 'revert': RESULT,
    'status': {'version': {1}, 'patches': [{
        'name': TEXT, 'sha256': re.compile('[0-9a-f]{64}'),
        'applied_at': re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ'), 'functions': [FUNCTION],
        'objects': [{'object': TEXT, 'covered': {'switch', 'core', 'waiting', 'none'}}],
        'verified': bool, 'state': {'switched', 'original', 'busy', 'tampered'}, 'why': str}]},
    'blocking': {'version': {1}, 'patch': TEXT, 'kernel': TEXT, 'tasks': int,
                 'blockers': [BLOCKER]},
    'recover': {'version': {1}, 'recovered': bool, 'done': str},
    'failure': {'version': {1}, 'code': re.compile('[A-Z_]+'), 'message': TEXT},
}


def fits(value, schema):
    """Whether a JSON value is as a schema says; see SCHEMAS."""
    if isinstance(schema, tuple):
        return any(fits(value, alternative) for alternative in schema)
    if isinstance(schema, dict):
        return (isinstance(value, dict) and set(value) == set(schema) and
                all(fits(value[key], schema[key]) for key in schema))
    if isinstance(schema, list):
        return isinstance(value, list) and all(fits(item, schema[0]) for item in value)
    if isinstance(schema, set):
        return value in schema
    if isinstance(schema, re.Pattern):
        return isinstance(value, str) and schema.fullmatch(value) is not None
    return value is None if schema is None else type(value) is schema


def valid(result, name):
    """The JSON object of a run, which has to fit the schema of that name."""
    assert result.json and fits(result.json, SCHEMAS[name]), result
    assert result.stdout.count('\n') == 1 and result.stdout.isascii(), result
    if name == 'blocking':
        wanted = BUSY if result.json['blockers'] else DONE
    elif name == 'status':
        tampered = [patch for patch in result.json['patches'] if patch['state'] == 'tampered']
        wanted = OPERATOR if tampered else DONE
    else:
        wanted = result.status if result.json.get('code') else DONE
    assert result.status == wanted, result
    return result.json


def run(*arguments, **options):
    """hvpatch with exactly these arguments; returns (exit status, stdout, stderr)."""
    options = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'timeout': 60, **options}
    done = subprocess.run([hvpatch_path(), *arguments], text=True, stdin=subprocess.DEVNULL,
                          check=False, **options)
    return done.returncode, done.stdout, done.stderr


def assert_line(stderr, *words):
    """One line for people, with these words, printable."""
    assert stderr.startswith('hvpatch: ') and stderr.count('\n') == 1, stderr
    assert stderr[:-1].isprintable() and stderr.isascii(), stderr
    assert all(word in stderr for word in words), (words, stderr)


def assert_error(guest, arguments, status, *words):
    """The same error in both forms of output."""
    result = guest.hvpatch(*arguments, output='table')
    assert result.status == status, result
    assert_line(result.stderr, *words)
    result = guest.hvpatch(*arguments)
    assert result.status == status, result
    assert all(word in result.json['message'] for word in words), result
    schema = {'apply': 'apply', 'revert': 'revert', 'check': 'check'}.get(arguments[0], 'failure')
    if schema == 'check' and 'items' not in result.json:
        schema = 'failure'
    assert valid(result, schema)['code'], result


@contextlib.contextmanager
def untouched(guest):
    """Text, modules and the run state at the end are those of now."""
    before = guest.entry(OLD_NAME), guest.loaded(), guest.qmp.status()
    yield
    after = guest.entry(OLD_NAME), guest.loaded(), guest.qmp.status()
    assert after == before, (before, after)


# --- misuse: no VM needed ----------------------------------------------------

MISUSE = (
    ((), 'command'), (('nonsense',), "'nonsense'"), (('--nonsense', 'info'), '--nonsense'),
    (('--qmp',), '--qmp'), (('-o', 'xml', 'info'), 'xml'), (('-o',), '-o'),
    (('--backend', 'magic', 'info'), 'magic'), (('--qmp', 'a', '--core', 'b', 'info'), '--core'),
    (('--core', 'a', '--backend', 'gdbstub', 'info'), '--backend'),
    (('--qmp', 'a', '--trap', 'magic', 'info'), 'magic'),
    (('--core', 'a', '--trap', 'spin', 'info'), '--trap'),
    (('-c', 'x:///y', '--qmp', 's', 'info'), '--connect'),
    (('--pid', 'x', 'info'), "'x'"), (('--pid', '0', 'info'), "'0'"), (('--pid',), '--pid'),
    (('--pid', '1', '--qmp', 'a', 'info'), '--pid'), (('--pid', '1', 'list'), '--pid'),
    (('--pid', '1', 'watch'), '--pid'), (('--pid', '1', 'doctor'), 'doctor'),
    (('--qmp', 's', '--monitor', 'info'), '--monitor'),
    (('-d', 'vm', '--qmp', 's', 'info'), '--domain'), (('-d', 'v', '--core', 'f', 'info'), 'core'),
    (('install',), '--domain'), (('-d', 'vm', 'uninstall'), 'NAME'), (('-d', 'vm', 'install', ''),
                                                                        'PATCH'),
    (('--qmp', 's', 'watch'), '--qmp'), (('watch', '--at-once', '0'), '--at-once'),
    (('-d', 'vm', 'list'), 'list'), (('list', 'x'), "'x'"),
    (('info',), '? --domain NAME, --qmp SOCKET, --pid PID or --core FILE is'),
    (('revert', 'a'), '? --domain NAME or --qmp SOCKET is'),
    (('recover',), '? --domain NAME, --qmp SOCKET or --all is'),
    (('info', 'x'), "'x'"), (('apply',), 'PATCH'),
    (('apply', 'a', 'b'), "'b'"), (('apply', ''), 'PATCH'), (('revert',), 'NAME'),
    (('apply', 'a', '--timeout'), '--timeout'), (('apply', 'a', '--timeout', 'soon'), 'soon'),
    (('apply', 'a', '--timeout', '-1'), '-1 is not between 0 and 86400'),
    (('apply', 'a', '--timeout', '-0'), 'not between'),
    (('apply', 'a', '--timeout', '1.2.3'), 'not a number'),
    (('apply', 'a', '--timeout', '-x'), 'not a number'), (('watch', '--at-once', '1.5'), 'whole'),
    (('events', '--since', '1.5'), 'whole'), (('events', '--since', '-1'), 'not between'),
    (('apply', 'a', '--timeout', '1e9'), '1e9'),
    (('apply', 'a', '--timeout', '999999'), '999999'), (('apply', 'a', '--max-pause', '0'), '0'),
    (('revert', 'a', '--max-pause', '99999'), '99999'), (('apply', 'a', '--accept', 'x'), "'x'"),
    (('apply', 'a', '--replace', '--no-replace'), '--replace'),
    (('apply', 'a', '--kthreads', 'all'), '--kthreads'), (('check', 'a', '--accept', ''), 'item'),
    (('check', 'a', '--accept'), 'check: missing'), (('apply', 'a', '--foo'), 'apply: unknown'),
    *((('info', *words), f'info: {words[0].split("=")[0]} is a global option')
      for words in (('-c', 'x:///y'), ('--connect=x:///y',), ('-d', 'vm'), ('--domain', 'vm'),
                    ('--qmp', 's'), ('--core', 'f'), ('--pid', '1'), ('--monitor',),
                    ('--agent=s',), ('--oracle', 's'), ('--backend', 'kvm'), ('--trap', 'spin'),
                    ('--output', 'json'), ('--direct',), ('-v',), ('--verbose',), ('--version',))),
    *(((option, '', 'info'), f'{option} is empty')
      for option in ('--domain', '--qmp', '--core', '--pid', '--agent', '--oracle', '--backend')),
    (('-d', '', 'list'), '--domain is empty'),
    (('rehearse', 'a', '--kernel', ''), 'rehearse: --kernel is empty'),
    (('tasks', '--pid', 'init'), 'init'), (('tasks', '--pid', '-1'), '-1'),
    (('tasks', '--pid', '99999999'), '99999999'), (('tasks', '--stack'), '--stack'),
    (('status', '-o', 'json'), '-o'), (('--core', '/dev/null', 'revert', 'a'), 'dump'),
    (('--core', '/dev/null', 'recover'), 'dump'), (('\x1b[2J',), 'x1b'),
    (('rehearse',), 'PATCH'), (('rehearse', 'a'), '--kernel'),
    (('--qmp', 'a', 'rehearse', 'a', '--kernel', 'b'), '--qmp'),
    (('rehearse', 'a', '--kernel', 'b', '--rounds', '0'), '--rounds'),
    (('rehearse', 'a', '--kernel', 'b', '--rounds', '1.5'), '1.5'),
    (('rehearse', 'a', '--kernel', 'b', '--vcpus', '65'), '--vcpus'),
    (('rehearse', 'a', '--kernel', 'b', '--memory', '1'), '--memory'),
    (('rehearse', 'a', '--kernel', 'b', '--workload-timeout', '0'), '--workload-timeout'),
)


@suite.case('misuse-EXIT-2-one-line', guest=False)
def _():
    for arguments, word in MISUSE:
        status, stdout, stderr = run(*arguments)
        assert status == USAGE and bool(stdout) == ('json' in arguments), (arguments, stdout)
        assert_line(stderr, word)
    # Whoever mistypes is a person; a script gets an object all the same.
    for arguments, word in (
            (('-o', 'json', 'apply'), 'PATCH'), (('-o', 'json', '--foo'), '--foo'),
            (('--foo', '-o', 'json', 'info'), '--foo'), (('--foo', '-ojson', 'info'), '--foo'),
            (('--foo', '-vo', 'json', 'info'), '--foo'), (('info', '--output=json'), '--output'),
            (('-o', 'json', '-o', 'xml', 'info'), 'xml'), (('--output', 'json'), 'command'),
            (('-o', 'json', '--qmp', '', 'info'), '--qmp'),
            (('nonsense', '-o', 'json'), 'nonsense')):
        status, stdout, stderr = run(*arguments)
        assert status == USAGE, (arguments, stdout)
        failure = json.loads(stdout)
        assert fits(failure, SCHEMAS['failure']) and word in failure['message'], failure
        assert failure['code'] == 'INVALID_ARGUMENT', failure
        assert_line(stderr, word)
    for arguments in (('-o', 'json', '-o', 'table', 'apply'), ('--foo', '--outputs=json'),
                      ('--qmp', 's', '--core', 'f', 'revert', '-o')):
        assert run(*arguments)[:2] == (USAGE, ''), arguments


@suite.case('help-and-version-NEED-NO-VM', guest=False)
def _():
    status, stdout, stderr = run('--help')
    assert status == DONE and not stderr and stdout.isascii(), (status, stderr)
    assert all(command in stdout for command in COMMANDS), stdout
    for command in COMMANDS:
        for arguments in ((command, '--help'), (command, '-h')):
            status, stdout, stderr = run(*arguments)
            assert status == DONE and not stderr and f' {command} ' in stdout, arguments
            assert max(map(len, stdout.splitlines())) <= 100, stdout
    status, stdout, stderr = run('--version')
    assert status == DONE and re.fullmatch(r'hvpatch \d+\.\d+\.\d+\n', stdout), stdout


@suite.case('complete-LISTS-WHAT-HELP-NAMES', guest=False)
def _():
    assert tuple(run('complete')[1].split()) == COMMANDS
    for command in COMMANDS:
        options = set(re.findall(r'(?<!\S)--[\w-]+', run(command, '--help')[1]))
        assert set(run('complete', command)[1].split()) == options, command
    assert 'old-cold' in run('complete', 'accept')[1].split()
    assert run('complete', 'applied') == (DONE, '', '')
    assert run('complete', 'nonsense')[0] == USAGE


@suite.case('bash-completion-OFFERS-WHAT-FITS', guest=False)
def _():
    def offered(*words):
        line = ' '.join(f"'{word}'" for word in words)
        code = (f'PATH={os.path.dirname(hvpatch_path())}:$PATH; '
                f'. {ROOT}/docs/completion/hvpatch.bash; '
                f'COMP_WORDS=(hvpatch {line}); COMP_CWORD={len(words)}; _hvpatch; '
                'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(['bash', '-c', code], capture_output=True, text=True, check=True)
        assert not done.stderr, done.stderr
        return done.stdout.split()

    assert offered('') == list(COMMANDS) and offered('--qmp', 'x', 'rev') == ['revert']
    assert offered('-o', 'j') == ['json'] and offered('--cor') == ['--core']
    assert offered('tasks', '--st') == ['--stacks'] and offered('apply', '--accept', 'old') == \
        ['old-cold']
    assert offered('--core', f'{ROOT}/meson.b') == [f'{ROOT}/meson.build']
    assert offered('check', f'{ROOT}/meson.b') == [f'{ROOT}/meson.build']


@suite.case('kvm-backend-of-an-emulated-vm-UNSUPPORTED')
def _(guest):
    for command in ('info', 'tasks'):
        status, _, stderr = run('--backend', 'kvm', '--qmp', guest.hvpatch_qmp_path, command)
        assert status == NOT_APPLICABLE
        assert_line(stderr, 'the VM is emulated')
    for arguments, why in (((), 'the VM is emulated'), (('--backend', 'gdbstub'), 'asked for')):
        status, stdout, _ = run(*arguments, '-o', 'json', '--qmp', guest.hvpatch_qmp_path, 'info')
        info = json.loads(stdout)
        assert (info['backend'], info['backend_reason']) == ('gdbstub', why), info


@suite.case('output-that-cannot-be-written-FAILED', guest=False)
def _():
    with open('/dev/full', 'w') as full:
        status, _, stderr = run('--help', stdout=full)
        assert status == FAILED
        assert_line(stderr, 'output')
    reader, writer = os.pipe()
    os.close(reader)
    assert run('--help', stdout=writer) == (DONE, None, ''), 'a reader that has left'
    os.close(writer)


# --- no VM there -------------------------------------------------------------

def all_commands(patch):
    return [(command, *{'check': [patch], 'apply': [patch], 'blocking': [patch],
                        'revert': ['hvp_cmdline']}.get(command, [])) for command in VM_COMMANDS]


@suite.case('libvirt-out-of-reach-NAMES-THE-CONNECTION', guest=False)
def _():
    for arguments in (('list',), ('-d', 'vm', 'info'), ('-d', 'vm', 'install')):
        status, stdout, stderr = run('-c', 'foo:///b\x1br', *arguments)
        assert status != DONE and not stdout, (arguments, status, stderr)
        assert_line(stderr, 'no connection to libvirt at foo:///b\\x1br: ')


@suite.case('no-socket-FAILED')
def _(guest):
    path = guest.path('nowhere')
    for arguments in all_commands(guest.module('hvp_cmdline')):
        status, stdout, stderr = run('--qmp', path, *arguments)
        assert (status, stdout) == (FAILED, ''), (arguments, status, stderr)
        assert_line(stderr, path)


@suite.case('file-and-folder-as-socket-FAILED')
def _(guest):
    path = guest.path('file')
    with open(path, 'w') as stream:
        stream.write('not a socket')
    for target in (path, guest.folder, '/dev/null'):
        status, stdout, stderr = run('--qmp', target, 'info')
        assert status in (FAILED, USAGE) and not stdout, (target, status, stderr)
        assert_line(stderr, target)
    with open(path) as stream:
        assert stream.read() == 'not a socket'


@suite.case('nobody-answers-on-the-socket-BUSY')
def _(guest):
    path = guest.path('silent')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(5)
        started = time.monotonic()
        status, _, stderr = run('--qmp', path, 'info')
    assert status == BUSY and time.monotonic() - started < NO_ANSWER_SECONDS, (status, stderr)
    assert_line(stderr, path)


@suite.case('something-else-answers-on-the-socket-FAILED')
def _(guest):
    path = guest.path('other')
    for greeting in (b'220 smtp ready\r\n', b'{"QMP": {}}\n' * 3, b'\0' * 100, b''):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            with subprocess.Popen([hvpatch_path(), '--qmp', path, 'info'], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  preexec_fn=die_with_parent) as process:
                server.settimeout(30)
                peer, _ = server.accept()
                with peer:
                    peer.sendall(greeting)
                    peer.shutdown(socket.SHUT_WR)
                    stdout, stderr = process.communicate(timeout=NO_ANSWER_SECONDS)
        os.unlink(path)
        assert process.returncode == FAILED and not stdout, (greeting, process.returncode, stderr)
        assert_line(stderr)


@suite.case('monitor-used-by-somebody-else-BUSY')
def _(guest):
    with untouched(guest), socket.socket(socket.AF_UNIX) as other:
        other.connect(guest.hvpatch_qmp_path)
        assert b'QMP' in other.recv(4096)
        assert_error(guest, ('info',), BUSY, guest.hvpatch_qmp_path)
    assert guest.hvpatch('info').status == DONE


@suite.case('qemu-gone-FAILED', guest=False)
def _():
    with Guest('6.1') as guest:
        guest.qmp.execute('quit')
        guest.wait_ended()
        for arguments in all_commands(guest.module('hvp_cmdline')):
            status, _, stderr = run('--qmp', guest.hvpatch_qmp_path, *arguments)
            assert status == FAILED, (arguments, status, stderr)
            assert_line(stderr, guest.hvpatch_qmp_path)


# --- patch files that are not for this guest ---------------------------------

@suite.case('wrong-kernel-NOT-APPLICABLE')
def _(guest):
    other = '6.12' if guest.kernel == '6.1' else '6.1'
    builds = os.path.dirname(os.path.dirname(os.path.dirname(guest.module('hvp_cmdline'))))
    paths = [os.path.join(builds, name, 'modules', 'hvp_cmdline.ko')
             for name in sorted(os.listdir(builds)) if name.startswith(other + '.')]
    paths = [path for path in paths if os.path.exists(path)]
    if not paths:
        raise Skip(f'no modules built for {other}')
    with untouched(guest):
        for command in ('check', 'apply'):
            assert_error(guest, (command, paths[0]), NOT_APPLICABLE, 'vermagic', guest.release)


@suite.case('not-livepatch-missing-ambiguous-NOT-APPLICABLE')
def _(guest):
    wanted = {'hvp_not_livepatch': 'livepatch', 'hvp_missing': 'no_such_function_proc_show',
              'hvp_ambiguous': 'c_start'}
    with untouched(guest):
        for name, word in wanted.items():
            for command in ('check', 'apply'):
                assert_error(guest, (command, guest.module(name)), NOT_APPLICABLE, word)


@suite.case('truncated-anywhere-FAILED-naming-the-file')
def _(guest):
    with open(guest.module('hvp_cmdline'), 'rb') as stream:
        content = stream.read()
    path = guest.path('cut.ko')
    with untouched(guest):
        for length in (0, 1, 15, 63, 64, 200, len(content) // 3, len(content) // 2,
                       len(content) - 4096, len(content) - 64, len(content) - 1):
            with open(path, 'wb') as stream:
                stream.write(content[:length])
            for command in ('check', 'apply', 'blocking'):
                result = guest.hvpatch(command, path, output='table')
                assert result.status == FAILED, (length, result)
                assert_line(result.stderr, path)


@suite.case('no-such-patch-file-FAILED')
def _(guest):
    with untouched(guest):
        for command in ('check', 'apply', 'blocking'):
            assert_error(guest, (command, guest.path('nowhere.ko')), FAILED, 'nowhere.ko')
        assert_error(guest, ('revert', 'hvp_cmdline'), FAILED, 'hvp_cmdline')
        assert_error(guest, ('revert', 'a\x1b[2J' + 'b' * 300), FAILED, 'a\\x1b[2J')


# --- a guest or a VM that does not want to be patched ------------------------

@suite.case('patched-by-the-guest-itself-REFUSED', allow=LIVEPATCH_NOTES)
def _(guest):
    status, output = guest.insmod('hvp_cmdline')
    assert status == 0, output
    guest.wait_transition('hvp_cmdline')
    with untouched(guest):
        for command in ('check', 'apply'):
            assert_error(guest, (command, guest.module('hvp_overlap')), REFUSED, OLD_NAME)
            assert_error(guest, (command, guest.module('hvp_cmdline')), REFUSED, 'hvp_cmdline')
    guest.disable_livepatch('hvp_cmdline')


@suite.case('patched-by-another-patch-REFUSED')
def _(guest):
    with guest.applied('hvp_cmdline'), untouched(guest):
        for command in ('check', 'apply'):
            assert_error(guest, (command, guest.module('hvp_overlap')), REFUSED, OLD_NAME,
                         'hvp_cmdline')


@suite.case('revert-of-what-is-not-applied-NOT_FOUND-names-what-is')
def _(guest):
    assert_error(guest, ('revert', 'hvp_\x1b'), FAILED, 'no patch hvp_\\x1b is applied',
                 'no other is applied')
    with guest.applied('hvp_cmdline'), untouched(guest):
        assert_error(guest, ('revert', 'hvp'), FAILED, 'no patch hvp is applied',
                     '; applied: hvp_cmdline')


@suite.case('modules-disabled-REFUSED', fresh=True)
def _(guest):
    guest.check('echo 1 > /proc/sys/kernel/modules_disabled')
    with untouched(guest):
        for command in ('check', 'apply'):
            assert_error(guest, (command, guest.module('hvp_cmdline')), REFUSED, 'modules_disabled')
        info = valid(guest.hvpatch('info'), 'info')
        assert not info['patchable'] and 'modules_disabled' in info['reasons'][0], info


@suite.case('ima-appraises-modules-REFUSED-unless-accepted', fresh=True,
            options={'append': 'ima_policy=secure_boot'})
def _(guest):
    patch = guest.module('hvp_cmdline')
    with untouched(guest):
        assert_error(guest, ('apply', patch), REFUSED, 'IMA')
        result = guest.hvpatch('check', patch)
        failed = [item for item in result.json['items'] if not item['ok']]
        assert [item['item'] for item in failed] == ['guard'], failed
    assert guest.hvpatch('apply', patch, '--accept', 'guard').status == DONE
    assert guest.hvpatch('revert', 'hvp_cmdline').status == DONE


@suite.case('paused-by-its-owner-REFUSED-looked-at-STAYS-PAUSED')
def _(guest):
    patch = guest.module('hvp_cmdline')
    guest.qmp.execute('stop')
    guest.expected_status = 'paused'
    try:
        guest.qmp.take_events()
        for name in ('info', 'tasks', 'status', 'recover'):
            result = guest.hvpatch(name)
            assert result.status == DONE, (name, result)
            valid(result, name)
        assert_error(guest, ('apply', patch), REFUSED, 'paused')
        info = valid(guest.hvpatch('info'), 'info')
        assert not info['patchable'] and 'paused' in info['reasons'][0], info
        assert guest.qmp.take_events() == [] and guest.qmp.status() == 'paused'
    finally:
        guest.qmp.execute('cont')
        guest.expected_status = 'running'
    assert 'hvp_cmdline' not in guest.loaded()


@suite.case('debugger-attached-REFUSED-and-stays', fresh=True,
            options={'qemu_args': ('-gdb', 'tcp:127.0.0.1:0,server=on,wait=off')})
def _(guest):
    servers = [item['label'] for item in guest.qmp.execute('query-chardev')]
    with untouched(guest):
        assert_error(guest, ('apply', guest.module('hvp_cmdline')), REFUSED, 'gdb')
        info = valid(guest.hvpatch('info'), 'info')
        assert not info['patchable'] and 'gdb' in info['reasons'][0], info
    assert [item['label'] for item in guest.qmp.execute('query-chardev')] == servers


def packet(text):
    return f'${text}#{sum(text.encode()) & 0xff:02x}'.encode()


def poke(guest, address, content):
    """Writes guest memory as a debugger would, behind the guest's back."""
    path = guest.path('gdb')
    guest.qmp.execute('chardev-add', id='poke', backend={'type': 'socket', 'data': {
        'addr': {'type': 'unix', 'data': {'path': path}}, 'server': True, 'wait': False}})
    guest.qmp.monitor('gdbserver chardev:poke')
    with socket.socket(socket.AF_UNIX) as debugger:
        debugger.settimeout(30)
        debugger.connect(path)
        debugger.sendall(packet(f'M{address:x},{len(content):x}:{content.hex()}'))
        answer = b''
        while b'OK' not in answer:
            piece = debugger.recv(4096)
            assert piece, answer
            answer += piece
    # It is written; whether the VM goes on when the debugger leaves is QEMU's affair.
    guest.qmp.monitor('gdbserver none')
    if guest.qmp.status() != 'running':
        guest.qmp.execute('cont')


@suite.case('jump-changed-by-the-guest-TAMPERED', fresh=True)
def _(guest):
    with guest.applied('hvp_cmdline') as result:
        site = int(result.json['functions'][0]['site'], 16)
        original = guest.memory(site, 5)
        poke(guest, site + 1, bytes([original[1] ^ 0xff]))
        with untouched(guest):
            status = guest.hvpatch('status')
            patch, = valid(status, 'status')['patches']
            assert status.status == OPERATOR, status
            assert patch['state'] == 'tampered' and not patch['verified'] and patch['why'], status
            assert_error(guest, ('revert', 'hvp_cmdline'), OPERATOR, OLD_NAME)
        poke(guest, site + 1, original[1:2])
        assert guest.hvpatch('status').status == DONE


# --- what scripts get --------------------------------------------------------

@suite.case('json-of-every-command-AS-SPECIFIED')
def _(guest):
    patch = guest.module('hvp_three')
    info = valid(guest.hvpatch('info'), 'info')
    assert info['kernel']['release'] == guest.release and info['patchable'], info
    assert info['backend'] == 'gdbstub' and len(info['vcpus']) == 2, info
    text, = guest.symbol('_stext')
    assert int(info['kernel']['text_base'], 16) == text, info
    assert valid(guest.hvpatch('check', patch), 'check')['applicable']
    assert valid(guest.hvpatch('status'), 'status')['patches'] == []
    assert valid(guest.hvpatch('blocking', patch), 'blocking')['blockers'] == []
    assert valid(guest.hvpatch('apply', patch), 'apply')['result'] == 'applied'
    again = valid(guest.hvpatch('apply', patch), 'apply')
    assert again['result'] == 'applied' and 'already' in again['message'], again
    assert valid(guest.hvpatch('check', patch), 'check')['already_applied']
    patches = valid(guest.hvpatch('status'), 'status')['patches']
    assert [item['name'] for item in patches] == ['hvp_three'] and patches[0]['verified'], patches
    assert run('--qmp', guest.hvpatch_qmp_path, 'complete', 'applied')[1] == 'hvp_three\n'
    assert valid(guest.hvpatch('blocking', patch), 'blocking')['blockers'] == []
    assert valid(guest.hvpatch('revert', 'hvp_three'), 'revert')['result'] == 'reverted'
    assert not valid(guest.hvpatch('recover'), 'recover')['recovered']
    items = {item['item'] for item in guest.hvpatch('check', patch).json['items']}
    assert set(run('complete', 'accept')[1].split()) <= items, items


@suite.case('tasks-AS-THE-GUEST-LISTS-THEM')
def _(guest):
    tasks = valid(guest.hvpatch('tasks'), 'tasks')['tasks']
    listed = {int(pid) for pid in guest.check('cd /proc; echo [0-9]*').split()}
    stable = {pid for pid in listed if pid < 40}
    assert stable <= {task['pid'] for task in tasks}, (stable, tasks)
    assert [task for task in tasks if task['pid'] == 1 and task['comm'] == 'init'], tasks

    def init_sleeps():
        init, = valid(guest.hvpatch('tasks', '--pid', '1', '--stacks'), 'tasks')['tasks']
        assert not init['kthread'] and init['verdict'] == 'RELIABLE', init
        symbols = [frame['symbol'] for frame in init['stack']]
        assert 'schedule' in symbols and symbols[-1].startswith('entry_SYSCALL_64'), init

    # But while it waits for a child that has just ended.
    eventually(init_sleeps)
    assert sum(task['on_cpu'] and task['pid'] == 0 for task in tasks) <= 2
    only = valid(guest.hvpatch('tasks', '--kthreads'), 'kthreads')['tasks']
    assert all(task['kthread'] for task in only) and len(only) < len(tasks)
    one, = valid(guest.hvpatch('tasks', '--pid', '2'), 'tasks')['tasks']
    assert one['comm'] == 'kthreadd', one
    assert_error(guest, ('tasks', '--pid', '4000000'), FAILED, '4000000')


@suite.case('tables-FOR-PEOPLE')
def _(guest):
    def init_sleeps():
        stacks = guest.hvpatch('tasks', '--stacks', '--pid', '1', output='table')
        lines = stacks.stdout.splitlines()
        assert lines[0].split()[:2] == ['PID', 'TGID'] and 'init' in lines[1], stacks
        assert any(re.fullmatch(r' +schedule\+0x[0-9a-f]+/0x[0-9a-f]+', line)
                   for line in lines), stacks
        return stacks

    stacks = eventually(init_sleeps)
    plain = guest.hvpatch('tasks', output='table')
    assert '' not in plain.stdout.splitlines(), plain
    info = guest.hvpatch('info', output='table')
    assert guest.release in info.stdout and re.search(r'^attach .* ms \(', info.stdout, re.M), info
    assert 'can be applied' in guest.hvpatch('check', guest.module('hvp_cmdline'),
                                             output='table').stdout
    assert guest.hvpatch('status', output='table').stdout == 'no patch is applied\n'
    assert guest.hvpatch('recover', output='table').stdout == 'nothing to recover\n'
    for result in (stacks, plain, info):
        assert result.status == DONE and not result.stderr and result.stdout.isascii(), result


@suite.case('hostile-task-name-ESCAPED')
def _(guest):
    guest.check(r"(printf '\033[2J\377\\n\"' > /proc/self/comm; sleep 60; true) "
                '>/dev/null 2>&1 & echo $! > /tmp/pid')
    pid = guest.check('cat /tmp/pid')
    guest.wait_for(f'grep -q 2J /proc/{pid}/comm')
    try:
        table = guest.hvpatch('tasks', '--pid', pid, output='table')
        assert '\\x1b[2J\\xff' in table.stdout and '\x1b' not in table.stdout, table
        task, = valid(guest.hvpatch('tasks', '--pid', pid), 'tasks')['tasks']
        assert task['comm'].startswith('\\x1b[2J\\xff'), task
    finally:
        guest.check(f'pkill -P {pid}; kill {pid}; true')


def cache_file(guest, build_id):
    """Where hvpatch keeps what it learnt of a kernel, and the environment to find it there."""
    if os.geteuid() == 0:
        return f'/var/cache/hvpatch/{build_id}.kernel', {}
    folder = guest.path('cache')
    return f'{folder}/hvpatch/{build_id}.kernel', {'XDG_CACHE_HOME': folder}


@suite.case('info-SAYS-HOW-LONG-ATTACHING-TOOK')
def _(guest):
    build_id = guest.hvpatch('info').json['kernel']['build_id']
    path, environment = cache_file(guest, build_id)

    def attach_twice():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        first = valid(guest.hvpatch('info', environment=environment), 'info')
        second = valid(guest.hvpatch('info', environment=environment), 'info')
        assert not first['cached'] and 0 < first['attach_usec'] < FIRST_ATTACH_USEC, first
        assert second['cached'] and 0 < second['attach_usec'] < CACHED_ATTACH_USEC, second
        assert os.path.exists(path) and first['connect_usec'] > 0, first
        print(f"# attach: {first['attach_usec']} us first, {second['attach_usec']} us cached")

    # Somebody else on this host may just have filled the cache.
    eventually(attach_twice)


# --- progress ----------------------------------------------------------------

def on_terminal(guest, *arguments):
    """Runs hvpatch with stderr on a terminal; returns (exit status, stdout, terminal's text)."""
    master, slave = pty.openpty()
    with subprocess.Popen(guest.hvpatch_command(*arguments, output='table'), text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave,
                          preexec_fn=die_with_parent) as process:
        os.close(slave)
        seen = b''
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(master, 4096):
                seen += chunk
        stdout = process.communicate(timeout=60)[0]
    os.close(master)
    return process.returncode, stdout, seen.decode()


@suite.case('progress-on-a-terminal-ONLY')
def _(guest):
    pid = guest.check('rm -f /tmp/fifo; mkfifo /tmp/fifo; cat /tmp/fifo >/dev/null 2>&1 & echo $!')
    guest.wait_in(pid, 'wait_for_partner')
    arguments = ('apply', guest.module('hvp_sleeper'), '--no-prod', '--timeout', '2')
    try:
        status, stdout, seen = on_terminal(guest, *arguments)
        assert status == BUSY and 'wait_for_partner' in stdout, (status, stdout, seen)
        assert re.search(r'\r[^\r\n]*attempt \d+, 1 task in the way', seen), seen
        # The line is wiped, and the error is the only one that stays.
        assert seen.count('\n') == 1 and re.search(r'\r +\rhvpatch: [^\r]+\r\n$', seen), repr(seen)
        assert '\x1b' not in seen and seen.isascii(), repr(seen)
        result = guest.hvpatch(*arguments, output='table')
        assert result.status == BUSY and '\r' not in result.stderr, result
        assert_line(result.stderr, 'wait_for_partner')
    finally:
        guest.check('echo > /tmp/fifo; rm /tmp/fifo')


# --- dumps -------------------------------------------------------------------

@suite.case('dump-info-tasks-check-blocking-status-LIKE-THE-VM')
def _(guest):
    patch, path = guest.module('hvp_cmdline'), guest.path('core')
    live = valid(guest.hvpatch('info'), 'info')
    guest.qmp.execute('dump-guest-memory', timeout=60, paging=False, protocol=f'file:{path}')

    def dumped(*arguments):
        status, stdout, stderr = run('--core', path, '-o', 'json', *arguments)
        assert status == DONE and not stderr, (arguments, status, stdout, stderr)
        answer = json.loads(stdout)
        assert fits(answer, SCHEMAS[arguments[0]]), answer
        return answer

    info = dumped('info')
    assert info['kernel'] == live['kernel'] and info['backend'] == 'core', info
    assert not info['patchable'] and len(info['vcpus']) == len(live['vcpus']), info
    tasks = dumped('tasks')['tasks']
    assert {'init', 'kthreadd'} <= {task['comm'] for task in tasks}
    assert [frame['symbol'] for task in tasks if task['pid'] == 2
            for frame in task['stack']][-1] in ('ret_from_fork', 'ret_from_fork_asm'), tasks
    assert dumped('check', patch)['applicable']
    assert dumped('status')['patches'] == []
    assert dumped('blocking', patch)['blockers'] == []
    for arguments in (('apply', patch), ('revert', 'hvp_cmdline'), ('recover',)):
        status, _, stderr = run('--core', path, *arguments)
        assert status == USAGE, (arguments, status, stderr)
        assert_line(stderr, 'dump')
    os.truncate(path, os.path.getsize(path) // 2)
    status, _, stderr = run('--core', path, 'info')
    assert status == FAILED, (status, stderr)
    assert_line(stderr, path)


# --- the host's memory -------------------------------------------------------

def memory_blocks(guest):
    """How many blocks of the guest's memfd are allocated on the host."""
    folder = f'/proc/{guest.pid}/fd'
    sizes = [os.stat(os.path.join(folder, name)).st_blocks for name in os.listdir(folder)
             if os.readlink(os.path.join(folder, name)).startswith('/memfd:')]
    assert sizes, 'QEMU has no memfd'
    return max(sizes)


@suite.case('looking-ALLOCATES-NO-GUEST-MEMORY', options={'shared': True, 'memory': 1024})
def _(guest):
    patch = guest.module('hvp_cmdline')
    commands = (('info',), ('tasks', '--stacks'), ('check', patch), ('status',))
    # A guest that stands still allocates nothing by itself: not one block.
    guest.qmp.execute('stop')
    before = memory_blocks(guest)
    for arguments in commands:
        assert guest.hvpatch(*arguments).status == DONE, arguments
    after = memory_blocks(guest)
    guest.qmp.execute('cont')
    assert after == before, f'{after - before} blocks were allocated'
    # One that runs does; no more than it would without us.
    before, started = memory_blocks(guest), time.monotonic()
    time.sleep(1)
    idle = memory_blocks(guest) - before
    for arguments in (*commands, ('blocking', patch)):
        assert guest.hvpatch(*arguments).status == DONE, arguments
    grown, seconds = memory_blocks(guest) - before, max(2.0, time.monotonic() - started)
    assert grown <= seconds * idle + GROWTH_BLOCKS, \
        f'{grown} blocks in {seconds:.1f} s, {idle} in an idle second'


if __name__ == '__main__':
    suite.main()
