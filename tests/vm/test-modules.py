#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The test modules are right: each one tried with the guest's own livepatch, without hvpatch."""

import contextlib
import re
import subprocess

from guest import LIVEPATCH_NOTES, WARNING_NOTES
from tap import PATCHING_ITSELF, Suite

suite = Suite('6.1', '6.12', '6.1.0-50-cloud-amd64', **PATCHING_ITSELF)


def case(name, **options):
    return suite.case(name, allow=(*LIVEPATCH_NOTES, *options.pop('allow', ())), **options)


@contextlib.contextmanager
def patched(guest, name):
    status, output = guest.insmod(name)
    assert status == 0, output
    guest.wait_transition(name)
    yield
    guest.disable_livepatch(name)


def assert_refused(guest, name, error):
    status, output = guest.insmod(name)
    assert status != 0 and error in output, (status, output)
    assert guest.run(f'grep -q ^{name} /proc/modules')[0] != 0


def seq_file_case(module, path, text):
    @case(f'{module}-WORKS')
    def _(guest):
        before = guest.check(f'cat {path}')
        with patched(guest, module):
            assert guest.check(f'cat {path}') == text
        # Numbers may have moved on; the shape is the old one.
        shape = [re.sub(r'\d+', '', content).split()
                 for content in (before, guest.check(f'cat {path}'))]
        assert shape[0] == shape[1], shape


seq_file_case('hvp_cmdline', '/proc/cmdline', 'hvpatch was here')
seq_file_case('hvp_second', '/proc/execdomains', 'hvpatch second')
seq_file_case('hvp_overlap', '/proc/cmdline', 'hvpatch overlap')
seq_file_case('hvp_endbr_live', '/proc/softirqs', 'hvpatch live')


@case('hvp_endbr_sealed-WORKS')
def _(guest):
    with patched(guest, 'hvp_endbr_sealed'):
        assert guest.check('cat /proc/loadavg').split()[3].startswith('4242/')
    assert not guest.check('cat /proc/loadavg').split()[3].startswith('4242/')


@case('hvp_endbr_none-WORKS')
def _(guest):
    with patched(guest, 'hvp_endbr_none'):
        assert 'hvpatch saw' in guest.check('cat /proc/tty/drivers')
    assert 'hvpatch' not in guest.check('cat /proc/tty/drivers')


@case('entries-AS-NAMED', kernels=('6.12',))
def _(guest):
    def entry(function):
        address, = guest.symbol(function)
        return guest.memory(address, 16)

    sealed = (bytes.fromhex('660f1f00'), bytes.fromhex('0f1f40d6'))
    for function in ('show_softirqs', 'cmdline_proc_show', 'si_meminfo', 'meminfo_proc_show'):
        assert entry(function).startswith(bytes.fromhex('f30f1efa')), function
    for function in ('nr_running', 'si_swapinfo'):
        assert entry(function).startswith(sealed), function
    for function in ('show_tty_range', 'wait_for_partner'):
        assert entry(function).startswith(bytes.fromhex('0f1f440000')), function


@case('hvp_three-WORKS')
def _(guest):
    # Few looks, where the host is busy.
    assert re.fullmatch(r'old [1-9]\d* new 0 mixed 0', guest.check('hvp_mixcheck 2'))
    with patched(guest, 'hvp_three'):
        assert re.fullmatch(r'old 0 new [1-9]\d* mixed 0', guest.check('hvp_mixcheck 2'))
    assert re.fullmatch(r'old [1-9]\d* new 0 mixed 0', guest.check('hvp_mixcheck 2'))


def own_name(guest, text):
    return guest.check(f'printf {text} > /proc/$$/comm; read name < /proc/$$/comm; echo $name')


def write_word(guest, word):
    guest.check(f'printf {word} > /proc/self/comm')


@case('hvp_special-WORKS', allow=(*WARNING_NOTES, 'hvp_special: asked to warn'))
def _(guest):
    assert own_name(guest, 'Hello') == 'Hello'
    with patched(guest, 'hvp_special'):
        assert own_name(guest, 'Hello') == 'Hello'
        write_word(guest, 'key-on')
        assert own_name(guest, 'Hello') == 'hELLO'
        write_word(guest, 'key-off')
        assert own_name(guest, 'Hello') == 'Hello'
        assert guest.check('hvp_badwrite /proc/self/comm first') == 'EFAULT'
        assert guest.check('hvp_badwrite /proc/self/comm second') == 'EFAULT'
        write_word(guest, 'warn')
        parameters = '/sys/module/hvp_special/parameters'
        assert int(guest.check(f'cat {parameters}/calls')) >= 8
        assert guest.check(f'cat {parameters}/warnings') == '1'
        assert 'hvp_special: asked to warn' in guest.new_dmesg()
    assert own_name(guest, 'Hello') == 'Hello'


@contextlib.contextmanager
def fifo_opener(guest):
    """A task that sleeps in wait_for_partner; it leaves at the end."""
    guest.check('mkfifo /tmp/fifo; cat /tmp/fifo >/dev/null 2>&1 & echo $! > /tmp/pid')
    # In the pipe's open, by whichever function; what else is on the stack is for the cases.
    guest.wait_in('$(cat /tmp/pid)', 'fifo_open')
    yield
    guest.check('echo > /tmp/fifo; rm /tmp/fifo')
    guest.wait_for('! kill -0 $(cat /tmp/pid)')


def stack(guest):
    return guest.check('cat /proc/$(cat /tmp/pid)/stack')


@case('hvp_sleeper-STANDS-IN-OLD-AND-NEW')
def _(guest):
    with fifo_opener(guest):
        assert 'wait_for_partner' in stack(guest)
    with patched(guest, 'hvp_sleeper'):
        with fifo_opener(guest):
            assert 'hvp_wait_for_partner' in stack(guest)
        assert guest.check('cat /sys/module/hvp_sleeper/parameters/entered') == '1'


@case('hvp_tailcall-ONLY-HELPER-ON-STACK')
def _(guest):
    listing = subprocess.run(['objdump', '-dr', '--disassemble=hvp_tailcall_new',
                              guest.module('hvp_tailcall')], capture_output=True, text=True,
                             check=True).stdout
    assert re.search(r'jmp .*<hvp_tailcall_helper>', listing), listing
    with patched(guest, 'hvp_tailcall'):
        with fifo_opener(guest):
            frames = stack(guest)
            assert 'hvp_tailcall_helper' in frames and 'hvp_tailcall_new' not in frames, frames


@case('hvp_callbacks-RUN-IN-ORDER', allow=(r'hvp_callbacks: .*',))
def _(guest):
    with patched(guest, 'hvp_callbacks'):
        assert guest.check('cat /proc/version') == 'hvpatch with callbacks'
    calls = [line for line in guest.new_dmesg()
             if re.fullmatch('hvp_callbacks: (pre|post)_.*', line)]
    assert calls == [f'hvp_callbacks: {name}' for name in
                     ('pre_patch', 'post_patch', 'pre_unpatch', 'post_unpatch')], calls


@case('hvp_callbacks_refuse-REFUSED', allow=(r'hvp_callbacks_refuse: pre_patch refuses',))
def _(guest):
    assert_refused(guest, 'hvp_callbacks_refuse', 'No such device')
    assert guest.check('cat /proc/version').startswith('Linux version')


@case('hvp_missing-REFUSED')
def _(guest):
    assert_refused(guest, 'hvp_missing', '')


@case('hvp_ambiguous-REFUSED')
def _(guest):
    assert len(guest.symbol('c_start')) > 1
    assert_refused(guest, 'hvp_ambiguous', '')


@case('hvp_not_livepatch-LOADS-AS-A-MODULE', allow=(r'hvp_not_livepatch: loaded',))
def _(guest):
    assert guest.insmod('hvp_not_livepatch')[0] == 0
    assert guest.run('[ -e /sys/kernel/livepatch/hvp_not_livepatch ]')[0] != 0
    guest.check('rmmod hvp_not_livepatch')


def loop_offset(guest):
    guest.check('modprobe loop; dd if=/dev/zero of=/tmp/disk bs=1k count=64 2>/dev/null')
    guest.check('losetup /dev/loop0 /tmp/disk')
    text = guest.check('cat /sys/block/loop0/loop/offset')
    guest.check('losetup -d /dev/loop0; rm /tmp/disk')
    return text


@case('hvp_object-WORKS', allow=(r'loop: module loaded', r'loop\d: .*'))
def _(guest):
    with patched(guest, 'hvp_object'):
        assert loop_offset(guest) == 'hvpatch in a module'
    assert loop_offset(guest) == '0'
    with patched(guest, 'hvp_object'):
        assert loop_offset(guest) == 'hvpatch in a module'
    # The device lets go of its file a moment after losetup.
    guest.wait_for('rmmod loop')


@case('programs-RUN')
def _(guest):
    guest.check('hvp_sleepers 40 > /tmp/ready & echo $! > /tmp/pid; '
                'hvp_load 4 & echo $! >> /tmp/pid')
    guest.wait_for('grep -q ready /tmp/ready')
    guest.check('hvp_mixcheck 1 2')
    for where in ('read', 'nanosleep', 'poll', 'futex'):
        guest.check(f'hvp_sleepers 4 {where} > /tmp/there & echo $! > /tmp/sleeper')
        guest.wait_for('grep -q ready /tmp/there')
        guest.check('kill $(cat /tmp/sleeper)')
    guest.check('for pid in $(cat /tmp/pid); do kill $pid; done')
    guest.wait_for('! ps | grep -v grep | grep -E "hvp_(load|sleepers)"')


if __name__ == '__main__':
    suite.main()
