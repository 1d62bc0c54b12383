#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""apply, status, revert: every test module, what a user sees before, during and after.

Cases that cost a guest of their own and add little run only with HVPATCH_VM_LONG=1.
"""

import contextlib
import glob
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import socket
import time

from guest import ROOT, WARNING_NOTES, Guest, eventually, unexpected
from tap import Skip, Suite

BOTH = ('6.1', '6.12')
suite = Suite(*BOTH)

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK = range(7)
LONG = os.environ.get('HVPATCH_VM_LONG') == '1'
# Page lists, slabs and the log move MemAvailable by some hundred KiB; one leaked module of
# the rounds below (each has at least 8 pages) comes to more than this.
MEMORY_ROUNDS = 12
MEMORY_TOLERANCE_KIB = 320
# What loading and unloading may take on a crowded host.
SPARE_SECONDS = 60
MIX_SECONDS = 120

# What shows that a module's code runs: a command, and a pattern that only the new code matches.
EFFECTS = {
    'hvp_cmdline': ('cat /proc/cmdline', r'hvpatch was here'),
    'hvp_overlap': ('cat /proc/cmdline', r'hvpatch overlap'),
    'hvp_second': ('cat /proc/execdomains', r'hvpatch second'),
    'hvp_endbr_live': ('cat /proc/softirqs', r'hvpatch live'),
    'hvp_endbr_sealed': ('cat /proc/loadavg', r'.* 4242/.*'),
    'hvp_endbr_none': ('cat /proc/tty/drivers', r'(?s).*hvpatch saw .*'),
    'hvp_three': ('cat /proc/meminfo', r'(?s).*^Hvpatch: .*'),
    'hvp_callbacks': ('cat /proc/version', r'hvpatch with callbacks'),
}
FUNCTIONS = {
    'hvp_cmdline': {'cmdline_proc_show': 'hvp_cmdline_proc_show'},
    'hvp_overlap': {'cmdline_proc_show': 'hvp_cmdline_proc_show'},
    'hvp_second': {'execdomains_proc_show': 'hvp_execdomains_proc_show'},
    'hvp_endbr_live': {'show_softirqs': 'hvp_show_softirqs'},
    'hvp_endbr_sealed': {'nr_running': 'hvp_nr_running'},
    'hvp_endbr_none': {'show_tty_range': 'hvp_show_tty_range'},
    'hvp_three': {'si_meminfo': 'hvp_si_meminfo', 'si_swapinfo': 'hvp_si_swapinfo',
                  'meminfo_proc_show': 'hvp_meminfo_proc_show'},
    'hvp_callbacks': {'version_proc_show': 'hvp_version_proc_show'},
    'hvp_special': {'comm_write': 'hvp_comm_write'},
    'hvp_sleeper': {'wait_for_partner': 'hvp_wait_for_partner'},
    'hvp_tailcall': {'wait_for_partner': 'hvp_tailcall_new'},
}
CALLBACK_LINES = (r'hvp_callbacks: (pre|post)_(un)?patch',)
PAUSE_FIELDS = {'stop_usec', 'registers_usec', 'sweep_usec', 'rewalk_usec', 'switch_usec',
                'resume_usec'}


def sees(guest, name):
    """Whether the new code of a module runs."""
    command, pattern = EFFECTS[name]
    return re.fullmatch(pattern, guest.check(command), re.MULTILINE) is not None


def sha256(path):
    with open(path, 'rb') as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def applied_names(guest):
    result = guest.hvpatch('status')
    assert result.status == DONE and result.json['version'] == 1, result
    return [patch['name'] for patch in result.json['patches']]


def entries(guest, functions):
    return {function: guest.entry(function) for function in functions}


@contextlib.contextmanager
def nothing_changes(guest, *functions):
    """The named functions' text and the module list are the same at the end."""
    before = entries(guest, functions), guest.loaded()
    yield
    after = entries(guest, functions), guest.loaded()
    assert after == before, (before, after)


def done(guest, *arguments, **options):
    result = guest.hvpatch(*arguments, **options)
    assert result.status == DONE, result


def assert_report(guest, result, name, operation, functions):
    """The report of a successful apply or revert, field by field."""
    report = result.json
    assert result.status == DONE and report, result
    wanted = {'version': 1, 'operation': operation, 'kernel': guest.release, 'patch': name,
              'result': 'applied' if operation == 'apply' else report['result'],
              'sha256': sha256(guest.module(name))}
    assert {key: report[key] for key in wanted} == wanted, (wanted, result)
    assert report['code'] is None and isinstance(report['domain'], str), result
    assert report['tasks'] > 10 and report['rechecked'] >= 0 and report['attempts'] >= 1, result
    assert 0 < report['pause_usec'] < report['total_usec'] < result.seconds * 1e6, result
    assert set(report['pause']) == PAUSE_FIELDS, result
    assert all(0 <= usec <= report['total_usec'] for usec in report['pause'].values()), result
    assert report.get('blockers', []) == [], result
    assert {item['name'] for item in report['functions']} == set(functions), result


def assert_sites(guest, items, functions):
    """Each site is behind the fentry slot and holds a jump to the new function."""
    for item in items:
        old, = guest.symbol(item['name'])
        new, = guest.symbol(functions[item['name']])
        assert item['object'] == 'vmlinux', item
        addresses = int(item['old'], 16), int(item['new'], 16)
        assert addresses == (old, new), (item, hex(old), hex(new))
        site = int(item['site'], 16)
        # The ENDBR, live or sealed, puts the slot 4 bytes further.
        slot = old + (0 if guest.memory(old, 5) == bytes.fromhex('0f1f440000') else 4)
        assert guest.memory(slot, 5) == bytes.fromhex('0f1f440000'), hex(slot)
        assert site == slot + 5, item
        jump = b'\xe9' + (new - site - 5).to_bytes(4, 'little', signed=True)
        assert guest.memory(site, 5) == jump, guest.memory(site, 5).hex()


def assert_status(guest, name, functions):
    result = guest.hvpatch('status')
    assert result.status == DONE, result
    patch, = [patch for patch in result.json['patches'] if patch['name'] == name]
    assert patch['verified'] is True and patch['sha256'] == sha256(guest.module(name)), result
    assert patch['applied_at'], result
    assert_sites(guest, patch['functions'], functions)


def assert_refused(result, statuses, *words):
    """Refused before anything was done; the message has the words."""
    assert result.status in statuses, result
    said = result.stdout + result.stderr
    assert all(word in said for word in words), (words, result)
    if result.json:
        assert result.json['result'] in ('refused', 'failed'), result
        assert result.json['code'] and result.json['message'], result


# --- each module -------------------------------------------------------------

def seen_case(name, allow=()):
    @suite.case(f'{name}-APPLIED-VERIFIED-REVERTED', allow=allow)
    def _(guest):
        functions = FUNCTIONS[name]
        before = entries(guest, functions)
        assert not sees(guest, name)
        with nothing_changes(guest, *functions):
            result = guest.hvpatch('apply', guest.module(name))
            assert_report(guest, result, name, 'apply', functions)
            assert sees(guest, name)
            assert_sites(guest, result.json['functions'], functions)
            assert_status(guest, name, functions)
            assert guest.loaded()[name] == 1
            assert_report(guest, guest.hvpatch('revert', name), name, 'revert', functions)
        assert entries(guest, functions) == before
        assert not sees(guest, name)
        assert applied_names(guest) == []


for module in EFFECTS:
    seen_case(module, allow=CALLBACK_LINES if module == 'hvp_callbacks' else ())


@suite.case('entries-live-sealed-none-AS-NAMED', kernels=('6.12',))
def _(guest):
    kinds = {'show_softirqs': ('f30f1efa',), 'nr_running': ('660f1f00', '0f1f40d6'),
             'show_tty_range': ('0f1f4400',)}
    for function, heads in kinds.items():
        assert guest.entry(function, 4).hex() in heads, function


@suite.case('hvp_three-while-read-on-all-cpus-NEVER-MIXED')
def _(guest):
    # One after the other, until there were enough rounds: a slow host needs more of them.
    guest.check('touch /tmp/on; (while [ -e /tmp/on ]; do hvp_mixcheck 4 3; done) > /tmp/mix 2>&1 &'
                ' echo $! > /tmp/pid')
    for _ in range(4):
        with guest.applied('hvp_three'):
            pass
    guest.check('rm /tmp/on')
    guest.wait_for('! kill -0 $(cat /tmp/pid)', timeout=MIX_SECONDS)
    reports = guest.check('cat /tmp/mix').splitlines()
    matches = [re.fullmatch(r'old (\d+) new (\d+) mixed 0', report) for report in reports]
    assert matches and all(matches), reports
    for group in (1, 2):
        assert sum(int(match.group(group)) for match in matches) > 100, reports


def own_name(guest, text):
    return guest.check(f'printf {text} > /proc/$$/comm; read name < /proc/$$/comm; echo $name')


@suite.case('hvp_special-WARN-KEY-FAULT-WORK',
            allow=(*WARNING_NOTES, 'hvp_special: asked to warn'))
def _(guest):
    with nothing_changes(guest, 'comm_write'):
        with guest.applied('hvp_special') as result:
            assert_sites(guest, result.json['functions'], FUNCTIONS['hvp_special'])
            assert own_name(guest, 'Hello') == 'Hello'
            guest.check('printf key-on > /proc/self/comm')
            assert own_name(guest, 'Hello') == 'hELLO'
            guest.check('printf key-off > /proc/self/comm')
            assert own_name(guest, 'Hello') == 'Hello'
            assert guest.check('hvp_badwrite /proc/self/comm first') == 'EFAULT'
            assert guest.check('hvp_badwrite /proc/self/comm second') == 'EFAULT'
            assert guest.check('printf warn > /proc/self/comm; echo alive') == 'alive'
            assert guest.check('cat /sys/module/hvp_special/parameters/warnings') == '1'
            assert 'hvp_special: asked to warn' in guest.new_dmesg()
            assert any('cut here' in line for line in guest.new_dmesg())
            # A key that stays on: its jump must not outlive the module.
            guest.check('printf key-on > /proc/self/comm')
            assert own_name(guest, 'Hello') == 'hELLO'
    assert own_name(guest, 'Hello') == 'Hello'


# --- busy --------------------------------------------------------------------

def enter_fifo(guest, function='wait_for_partner'):
    """A task that sleeps in wait_for_partner, or in what replaces it; returns its pid."""
    guest.check('rm -f /tmp/fifo; mkfifo /tmp/fifo; cat /tmp/fifo >/dev/null 2>&1 & '
                'echo $! > /tmp/pid')
    pid = int(guest.check('cat /tmp/pid'))
    guest.wait_in(pid, function)
    return pid


def leave_fifo(guest):
    guest.check('echo > /tmp/fifo; rm /tmp/fifo')
    guest.wait_gone('$(cat /tmp/pid)')


def assert_busy(guest, pid, function, *arguments):
    """Exit status 4 after about the timeout; the task and nobody else named, with its stack."""
    result, seconds = guest.hvpatch_in_vain(*arguments, '--no-prod')
    report = result.json
    assert result.status == BUSY and report['result'] == 'busy' and report['code'] == 'BUSY', result
    blocker, = [task for task in report['blockers'] if task['pid'] == pid]
    wanted = {'comm': 'cat', 'kthread': False, 'function': function, 'reason': 'ACTIVE'}
    assert {key: blocker[key] for key in wanted} == wanted, (wanted, result)
    assert any(re.fullmatch(rf'{function}\+0x[0-9a-f]+/0x[0-9a-f]+.*', frame)
               for frame in blocker['stack']), result
    assert report['attempts'] >= 2, result
    assert seconds - 0.5 <= result.seconds < seconds + SPARE_SECONDS, result
    assert report['blockers'] == [blocker], result
    assert 'cat' in report['message'] and function in report['message'], result


@suite.case('sleeper-inside-BUSY-then-APPLIED')
def _(guest):
    path = guest.module('hvp_sleeper')
    with nothing_changes(guest, 'wait_for_partner'):
        pid = enter_fifo(guest)
        assert_busy(guest, pid, 'wait_for_partner', 'apply', path)
    assert applied_names(guest) == []
    leave_fifo(guest)
    with guest.applied('hvp_sleeper'):
        enter_fifo(guest)
        leave_fifo(guest)
        assert guest.check('cat /sys/module/hvp_sleeper/parameters/entered') == '1'


@suite.case('blocking-NAMES-THE-SLEEPER')
def _(guest):
    path = guest.module('hvp_sleeper')
    result = guest.hvpatch('blocking', path)
    assert result.status == DONE and result.json['blockers'] == [], result
    with nothing_changes(guest, 'wait_for_partner'):
        pid = enter_fifo(guest)
        result = guest.hvpatch('blocking', path)
        assert [(task['pid'], task['function']) for task in result.json['blockers']] == \
            [(pid, 'wait_for_partner')], result
    leave_fifo(guest)


def wait_until_loaded(guest, process):
    """Until an apply of hvp_sleeper has loaded it, and has tried for a while to switch."""
    guest.wait_for('grep -q "^hvp_sleeper " /proc/modules', timeout=60)
    time.sleep(1)
    assert process.poll() is None, process.communicate()


@suite.case('sleeper-leaves-during-the-wait-APPLIED')
def _(guest):
    enter_fifo(guest)
    process = guest.hvpatch_start('apply', guest.module('hvp_sleeper'), '--no-prod', '--timeout',
                                  str(2 * SPARE_SECONDS))
    wait_until_loaded(guest, process)
    leave_fifo(guest)
    # Long before the timeout.
    stdout, stderr = process.communicate(timeout=SPARE_SECONDS)
    assert process.returncode == DONE, (stdout, stderr)
    enter_fifo(guest)
    leave_fifo(guest)
    assert guest.check('cat /sys/module/hvp_sleeper/parameters/entered') == '1'
    done(guest, 'revert', 'hvp_sleeper')


def revert_busy_case(name, function):
    """A task sleeps in FUNCTION of the module: revert waits for it."""
    @suite.case(f'{name}-revert-while-inside-BUSY-then-REVERTED')
    def _(guest):
        with nothing_changes(guest, 'wait_for_partner'):
            with guest.applied(name):
                pid = enter_fifo(guest, function)
                with nothing_changes(guest, 'wait_for_partner'):
                    assert_busy(guest, pid, function, 'revert', name)
                assert_status(guest, name, FUNCTIONS[name])
                leave_fifo(guest)


revert_busy_case('hvp_sleeper', 'hvp_wait_for_partner')
revert_busy_case('hvp_tailcall', 'hvp_tailcall_helper')


@suite.case('pause-over-budget-LEAVES-NOTHING')
def _(guest):
    """A pause of 1 ms is too short for an emulated CPU: whatever comes of it, all or nothing."""
    for _ in range(4):
        with nothing_changes(guest, 'cmdline_proc_show'):
            result = guest.hvpatch('apply', guest.module('hvp_cmdline'), '--max-pause', '1',
                                   '--timeout', '3')
            if result.status == DONE:
                done(guest, 'revert', 'hvp_cmdline')
            assert result.status in (DONE, FAILED, BUSY, ROLLED_BACK), result
    with guest.applied('hvp_cmdline'):
        assert sees(guest, 'hvp_cmdline')


# --- callbacks ---------------------------------------------------------------

def callback_lines(guest, name):
    return [line for line in guest.new_dmesg() if re.fullmatch(f'{name}: (pre|post)_.*', line)]


@suite.case('hvp_callbacks-RUN-IN-ORDER', allow=CALLBACK_LINES)
def _(guest):
    with guest.applied('hvp_callbacks'):
        assert callback_lines(guest, 'hvp_callbacks') == ['hvp_callbacks: pre_patch',
                                                          'hvp_callbacks: post_patch']
    assert callback_lines(guest, 'hvp_callbacks')[2:] == ['hvp_callbacks: pre_unpatch',
                                                          'hvp_callbacks: post_unpatch']


@suite.case('hvp_callbacks_refuse-REFUSED', allow=(r'hvp_callbacks_refuse: pre_patch refuses',))
def _(guest):
    with nothing_changes(guest, 'version_proc_show'):
        result = guest.hvpatch('apply', guest.module('hvp_callbacks_refuse'))
        assert_refused(result, (REFUSED,), 'pre_patch')
    # post_unpatch only follows a pre_patch that said yes.
    lines = callback_lines(guest, 'hvp_callbacks_refuse')
    assert lines == ['hvp_callbacks_refuse: pre_patch refuses'], lines
    assert applied_names(guest) == []


# --- more than one patch, the same one twice ---------------------------------

@suite.case('independent-patches-COEXIST-revert-in-any-order')
def _(guest):
    pair = ('hvp_cmdline', 'hvp_second')
    with nothing_changes(guest, 'cmdline_proc_show', 'execdomains_proc_show'):
        for order in (pair, pair[::-1]):
            for name in pair:
                done(guest, 'apply', guest.module(name))
            assert sorted(applied_names(guest)) == sorted(pair)
            assert sees(guest, pair[0]) and sees(guest, pair[1])
            done(guest, 'revert', order[0])
            assert not sees(guest, order[0]) and sees(guest, order[1])
            assert_status(guest, order[1], FUNCTIONS[order[1]])
            done(guest, 'revert', order[1])
            assert not sees(guest, order[1])


@suite.case('overlapping-patch-REFUSED-by-name')
def _(guest):
    with guest.applied('hvp_cmdline'):
        with nothing_changes(guest, 'cmdline_proc_show'):
            for command in ('check', 'apply'):
                result = guest.hvpatch(command, guest.module('hvp_overlap'))
                assert result.status in (NOT_APPLICABLE, REFUSED), result
                said = result.stdout + result.stderr
                assert 'cmdline_proc_show' in said and 'hvp_cmdline' in said, result
        assert sees(guest, 'hvp_cmdline') and applied_names(guest) == ['hvp_cmdline']


@suite.case('applied-already-SAYS-SO-WITHOUT-A-STOP')
def _(guest):
    guest.qmp.take_events()
    with guest.applied('hvp_cmdline'):
        # Under KVM nobody is told of any.
        assert ('STOP' in guest.qmp.take_events()) == (not guest.is_kvm)
        with nothing_changes(guest, 'cmdline_proc_show'):
            guest.qmp.take_events()
            result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
            assert result.status == DONE and 'already' in result.stdout + result.stderr, result
            assert result.json['result'] == 'applied' and result.json['code'] != 'BUSY', result
            assert 'STOP' not in guest.qmp.take_events(), 'the VM was stopped'


@suite.case('read-only-commands-DO-NOT-STOP')
def _(guest):
    guest.qmp.take_events()
    # tasks may: what runs on a CPU has a stack only while it stands still.
    for arguments in (('info',), ('status',), ('check', guest.module('hvp_cmdline'))):
        result = guest.hvpatch(*arguments)
        assert result.status == DONE and result.json['version'] == 1, result
        assert 'STOP' not in guest.qmp.take_events(), arguments


@suite.case('revert-of-what-is-not-applied-FAILED')
def _(guest):
    with nothing_changes(guest, 'cmdline_proc_show'):
        result = guest.hvpatch('revert', 'hvp_cmdline')
        assert_refused(result, (FAILED, NOT_APPLICABLE), 'hvp_cmdline')


@suite.case('table-output-READABLE')
def _(guest):
    result = guest.hvpatch('apply', guest.module('hvp_cmdline'), output='table')
    assert result.status == DONE and 'hvp_cmdline' in result.stdout, result
    assert not result.stderr and result.stdout.isascii() and '\x1b' not in result.stdout, result
    result = guest.hvpatch('status', output='table')
    assert 'hvp_cmdline' in result.stdout and 'cmdline_proc_show' in result.stdout, result
    done(guest, 'revert', 'hvp_cmdline', output='table')


# --- what is left in the guest -----------------------------------------------

@suite.case('rmmod-while-applied-REFUSED')
def _(guest):
    with guest.applied('hvp_cmdline'):
        assert guest.loaded()['hvp_cmdline'] == 1
        assert guest.run('rmmod hvp_cmdline')[0] != 0
        assert guest.loaded()['hvp_cmdline'] == 1 and sees(guest, 'hvp_cmdline')


@suite.case('twelve-rounds-MEMORY-AND-MODULES-AS-BEFORE')
def _(guest):
    def round_of(name):
        with guest.applied(name):
            pass

    round_of('hvp_three')
    modules, before = guest.loaded(), guest.available_kib()
    for _ in range(MEMORY_ROUNDS):
        round_of('hvp_three')
    assert guest.loaded() == modules

    def come_back():
        lost = before - guest.available_kib()
        assert lost <= MEMORY_TOLERANCE_KIB, f'{lost} KiB gone after {MEMORY_ROUNDS} rounds'

    # What the kernel frees later; what was lost stays so.
    eventually(come_back, interval=1)


@suite.case('soak-ten-cycles-under-load-CLEAN')
def _(guest):
    path = os.path.join(ROOT, 'scripts', 'soak')
    loader = importlib.machinery.SourceFileLoader('soak', path)
    soak = importlib.util.module_from_spec(importlib.util.spec_from_loader('soak', loader))
    loader.exec_module(soak)
    report = soak.soak(guest, 10)
    assert report['cycles'] == 10 and not report['problems'], report


# --- negatives ---------------------------------------------------------------

def refused_case(name, functions, statuses, *words):
    @suite.case(f'{name}-REFUSED')
    def _(guest):
        with nothing_changes(guest, *functions):
            result = guest.hvpatch('check', guest.module(name))
            assert result.status in statuses and result.json['applicable'] is False, result
            assert [item for item in result.json['items'] if not item['ok']], result
            assert_refused(guest.hvpatch('apply', guest.module(name)), statuses, *words)


refused_case('hvp_missing', (), (NOT_APPLICABLE,), 'no_such_function_proc_show')
refused_case('hvp_ambiguous', (), (NOT_APPLICABLE,), 'c_start')


@suite.case('hvp_not_livepatch-REFUSED')
def _(guest):
    with nothing_changes(guest):
        result = guest.hvpatch('apply', guest.module('hvp_not_livepatch'))
        assert_refused(result, (FAILED, NOT_APPLICABLE, REFUSED), 'livepatch')


def other_kernel(guest):
    return '6.12' if guest.kernel == '6.1' else '6.1'


@suite.case('module-of-another-kernel-REFUSED')
def _(guest):
    folder = os.path.dirname(guest.module('hvp_cmdline'))
    builds = os.path.dirname(os.path.dirname(folder))
    others = glob.glob(f'{builds}/{other_kernel(guest)}.*/modules/hvp_cmdline.ko')
    if not others:
        raise Skip(f'no modules built for {other_kernel(guest)}')
    path = others[0]
    with nothing_changes(guest, 'cmdline_proc_show'):
        for command in ('check', 'apply'):
            result = guest.hvpatch(command, path)
            assert result.status == NOT_APPLICABLE, result
            assert 'vermagic' in result.stdout + result.stderr, result


@suite.case('damaged-files-REFUSED')
def _(guest):
    with open(guest.module('hvp_cmdline'), 'rb') as stream:
        content = stream.read()
    pieces = {'empty': b'', 'text': b'not a module\n' * 100, 'head': content[:64],
              'half': content[:len(content) // 2], 'most': content[:-64],
              'machine': content[:18] + b'\xb7\0' + content[20:]}
    with nothing_changes(guest, 'cmdline_proc_show'):
        for name, piece in pieces.items():
            path = guest.path(f'{name}.ko')
            with open(path, 'wb') as stream:
                stream.write(piece)
            assert_refused(guest.hvpatch('apply', path), (FAILED, NOT_APPLICABLE))
        for path in (guest.path('nowhere.ko'), guest.folder, '/dev/null'):
            assert_refused(guest.hvpatch('apply', path), (FAILED, USAGE, NOT_APPLICABLE, REFUSED))


@suite.case('wrong-usage-EXIT-2')
def _(guest):
    for arguments in ((), ('apply',), ('nonsense',), ('revert',), ('apply', 'a', 'b'),
                      ('apply', guest.module('hvp_cmdline'), '--timeout', 'soon'),
                      ('status', '--no-such-option')):
        result = guest.hvpatch(*arguments)
        assert result.status == USAGE and result.stderr, (arguments, result)


@suite.case('paused-by-its-owner-REFUSED-and-stays-paused')
def _(guest):
    before = guest.entry('cmdline_proc_show')
    guest.qmp.execute('stop')
    result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
    status = guest.qmp.status()
    guest.qmp.take_events()
    guest.qmp.execute('cont')
    assert status == 'paused', status
    assert_refused(result, (FAILED, BUSY, REFUSED), 'paused')
    assert guest.entry('cmdline_proc_show') == before
    assert 'hvp_cmdline' not in guest.loaded()


def wait_status(guest, wanted):
    def check():
        assert wanted(guest.qmp.status()), guest.qmp.status()
    eventually(check)


def packet(text):
    return f'${text}#{sum(text.encode()) & 0xff:02x}'.encode()


@suite.case('debugger-attached-CONFLICT-and-stays-attached')
def _(guest):
    before = guest.entry('cmdline_proc_show')
    path = guest.path('gdb')
    guest.qmp.monitor(f'gdbserver unix:{path},server=on,wait=off')
    with socket.socket(socket.AF_UNIX) as debugger:
        debugger.settimeout(30)
        debugger.connect(path)
        debugger.sendall(packet('qSupported'))
        answer = b''
        # It may come in pieces, behind the stop that connecting causes.
        while b'PacketSize' not in answer:
            piece = debugger.recv(4096)
            assert piece, answer
            answer += piece
        debugger.sendall(b'+' + packet('vCont;c'))
        wait_status(guest, lambda status: status == 'running')
        result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
        assert guest.qmp.status() == 'running', guest.qmp.status()
        debugger.sendall(b'\x03')
        wait_status(guest, lambda status: status != 'running')
    guest.qmp.monitor('gdbserver none')
    guest.qmp.execute('cont')
    assert_refused(result, (REFUSED,), 'gdb')
    assert result.json['code'] == 'CONFLICT', result
    assert guest.entry('cmdline_proc_show') == before
    # And without the debugger it goes.
    with guest.applied('hvp_cmdline'):
        assert sees(guest, 'hvp_cmdline')


@suite.case('modules-disabled-REFUSED-by-policy', fresh=True)
def _(guest):
    guest.check('echo 1 > /proc/sys/kernel/modules_disabled')
    with nothing_changes(guest, 'cmdline_proc_show'):
        for command in ('check', 'apply'):
            result = guest.hvpatch(command, guest.module('hvp_cmdline'))
            assert result.status == REFUSED, result
            assert 'modules_disabled' in result.stdout + result.stderr, result


@suite.case('modules-disabled-after-apply-REVERT-SAYS', fresh=True)
def _(guest):
    """delete_module obeys modules_disabled too: refused, or reverted with the module left."""
    done(guest, 'apply', guest.module('hvp_cmdline'))
    guest.check('echo 1 > /proc/sys/kernel/modules_disabled')
    result = guest.hvpatch('revert', 'hvp_cmdline')
    if result.json['result'] == 'reverted':
        assert not sees(guest, 'hvp_cmdline'), result
        assert result.status == DONE or 'unload' in result.json['message'], result
    else:
        assert_refused(result, (REFUSED,), 'modules_disabled')
        assert_status(guest, 'hvp_cmdline', FUNCTIONS['hvp_cmdline'])


@suite.case('qemu-gone-while-waiting-FAILED', guest=False)
def _():
    with Guest('6.1') as guest:
        enter_fifo(guest)
        process = guest.hvpatch_start('apply', guest.module('hvp_sleeper'), '--no-prod',
                                      '--timeout', str(SPARE_SECONDS))
        wait_until_loaded(guest, process)
        guest.qmp.execute('quit')
        stdout, stderr = process.communicate(timeout=SPARE_SECONDS)
        guest.wait_ended()
        assert process.returncode == FAILED and stdout + stderr, (stdout, stderr)
        for arguments in (('info',), ('apply', guest.module('hvp_cmdline'))):
            result = guest.hvpatch(*arguments)
            assert result.status == FAILED and result.stderr + result.stdout, result


# --- machines and kernels ----------------------------------------------------

def machine_case(title, kernels=None, check='true', **options):
    @suite.case(f'machine-{title}-APPLIED-REVERTED', kernels=kernels, options=options, fresh=True)
    def _(guest):
        guest.check(check)
        for name in ('hvp_cmdline', 'hvp_three'):
            assert not sees(guest, name)
            with guest.applied(name) as result:
                assert sees(guest, name)
                assert len(result.json['functions']) == len(FUNCTIONS[name]), result
                assert guest.hvpatch('status').json['patches'][0]['verified'] is True
            assert not sees(guest, name) and name not in guest.loaded()


machine_case('smp-1', smp=1, check='[ $(nproc) = 1 ]')
machine_case('smp-4', smp=4, check='[ $(nproc) = 4 ]')
machine_case('cpu-max', cpu='max', check='grep -w la57 /proc/cpuinfo | grep -qw smap')
machine_case('pti-on', append='pti=on', check='grep -qw pti /proc/cpuinfo')
machine_case('shared-memory', kernels=BOTH if LONG else ('6.1',), shared=True)
machine_case('memory-hole-q35', kernels=BOTH if LONG else ('6.12',), memory=5000, machine='q35')
machine_case('rt', kernels=('6.1-rt',), check='uname -r | grep -q -- -rt-')
machine_case('cloud', kernels=('6.12-cloud',), check='uname -r | grep -q cloud')
if LONG:
    machine_case('memory-hole-pc-shared', memory=5000, shared=True)
    machine_case('eight-cpus-max-pti', smp=8, cpu='max', append='pti=on')
    machine_case('no-kaslr', append='nokaslr')
    machine_case('rt-smp-4', kernels=('6.1-rt',), smp=4)


@suite.case('kernel-messages-NOTES-ONLY-ONCE', fresh=True)
def _(guest):
    """The loader's notes come with the first module and never again."""
    for expected in (True, False):
        with guest.applied('hvp_cmdline'):
            pass
        messages = guest.new_dmesg()
        guest.mark_dmesg()
        assert not unexpected(messages), messages
        assert any('hvp_cmdline' in line for line in messages) is expected, messages


if __name__ == '__main__':
    suite.main()
