#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch rehearse: throw-away guests, what is found out in them, and what is left of them.

Each case boots its own guest by hvpatch itself. Kernels alternate, as a rehearsal does not depend
on them more than apply does.
"""

import contextlib
import glob
import html.parser
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from guest import die_with_parent, hvpatch_path, prepare, script
from tap import Skip, Suite

suite = Suite('6.1', '6.12')

PASSED, FAILED, NOT_APPLICABLE, BUSY, VERDICT_FAILED = 0, 1, 3, 4, 8
# Of one rehearsal on a crowded host.
LONG = 540
PATCHED = 'grep -q "hvpatch was here" /proc/cmdline'
OLD = 'cmdline_proc_show'
# Returns when a task sleeps in the function that hvp_sleeper replaces.
ENTER_FIFO = ('cat /tmp/fifo > /dev/null 2>&1 &\n'
              'while ! grep -q wait_for_partner /proc/$!/stack; do sleep 0.1; done')


class Result:
    """One run: exit status, JSON object, output."""

    def __init__(self, process):
        try:
            self.stdout, self.stderr = process.communicate(timeout=LONG)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        self.status = process.returncode
        with contextlib.suppress(ValueError):
            self.json = json.loads(self.stdout)

    def __str__(self):
        return f'exit status {self.status}\n{self.stdout[-4000:]}\n{self.stderr[-1000:]}'


class Stage:
    """A folder for temporary files, which a rehearsal leaves empty, and one for the case's."""

    def __init__(self, kernel):
        prepare(kernel)
        self.release = script('resolve', kernel)
        self._modules = script('modules', self.release)
        self.kernel = os.path.join(script('path', self.release), 'vmlinuz')

    def __enter__(self):
        # pylint: disable=consider-using-with
        self._folder = tempfile.TemporaryDirectory(prefix='hvp-rehearse-')
        self.scratch = os.path.join(self._folder.name, 'tmp')
        os.mkdir(self.scratch)
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def path(self, name):
        return os.path.join(self._folder.name, name)

    def module(self, name):
        return os.path.join(self._modules, name + '.ko')

    def workload(self, text):
        with open(self.path('workload'), 'w') as stream:
            stream.write('#!/bin/sh\n' + text + '\n')
        return self.path('workload')

    def start(self, name, *arguments, program=None, kernel=None, environment=None):
        qemu = os.environ.get('HVPATCH_QEMU')
        command = [program or hvpatch_path(), '-o', 'json', 'rehearse', self.module(name),
                   '--kernel', kernel or self.kernel, *arguments]
        return subprocess.Popen(command + (['--qemu', qemu] if qemu else []), text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, preexec_fn=die_with_parent,
                                env={**os.environ, 'TMPDIR': self.scratch, **(environment or {})})

    def rehearse(self, name, *arguments, **options):
        result = Result(self.start(name, *arguments, **options))
        self.assert_nothing_left(0)
        return result

    def processes(self):
        """Those that have the folder of temporary files in their command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError), open(f'/proc/{pid}/cmdline', 'rb') as stream:
                if self.scratch.encode() in stream.read():
                    found.append(int(pid))
        return found

    def assert_nothing_left(self, seconds):
        """Neither processes nor files, at the latest after so many seconds."""
        deadline = time.monotonic() + seconds
        while os.listdir(self.scratch) or self.processes():
            assert time.monotonic() < deadline, (os.listdir(self.scratch), self.processes())
            time.sleep(0.1)


def case(name, kernel):
    """A case that gets a stage of this kernel."""
    def register(function):
        @suite.case(f'{kernel}/{name}', guest=False, timeout=LONG + 30)
        def _():
            with Stage(kernel) as stage:
                function(stage)
    return register


class Page(html.parser.HTMLParser):
    """Rows of code by their class; no element that would load or run anything."""

    def __init__(self, path):
        super().__init__()
        self.rows = []
        with open(path) as stream:
            self.feed(stream.read())

    def handle_starttag(self, tag, attrs):
        assert tag not in ('script', 'img', 'link', 'iframe', 'object', 'a'), tag
        attributes = dict(attrs)
        assert not any(name.startswith('on') or name in ('src', 'href') for name in attributes)
        if tag == 'tr':
            self.rows.append((attributes.get('class') or '').split(' ')[0])


# --- verdicts ----------------------------------------------------------------

@case('two-rounds-PASS', '6.1')
def _(stage):
    journals = set(os.listdir('/run/hvpatch')) if os.path.isdir('/run/hvpatch') else set()
    result = stage.rehearse('hvp_cmdline', '--rounds', '2', '--html', stage.path('report.html'),
                            '--workload', stage.workload('cat /proc/cmdline; cat /proc/cmdline'))
    assert result.status == PASSED and result.json['verdict'] == 'pass', result
    assert result.json['violations'] == [] and not result.json['reasons'], result
    assert result.json['kernel'] == stage.release and result.json['applicable'], result
    rounds = result.json['rounds']
    assert len(rounds) == 2, result
    for each in rounds:
        assert each['apply']['result'] == 'applied' and each['apply']['pause_usec'] > 0, result
        assert each['revert']['result'] == 'reverted' and each['revert']['attempts'] > 0, result
        assert each['workload_status'] == each['workload_status_after'] == 0, result
        assert each['workload_output'] == ['hvpatch was here'] * 2, result
    function, = result.json['functions']
    assert function['name'] == OLD and function['object'] == 'vmlinux', result
    # Twice in each of two runs, with the patch and after it.
    assert function['old_calls'] == function['new_calls'] == function['redirected_calls'] == 4, \
        result
    assert function['coverage']['executed'] == function['coverage']['blocks'] > 0, result
    kinds = {message['kind'] for message in result.json['messages']}
    assert 'loader' in kinds and 'against' not in kinds, result
    page = Page(stage.path('report.html'))
    assert 'ran' in page.rows and 'never' not in page.rows, page.rows
    left = set(os.listdir('/run/hvpatch')) if os.path.isdir('/run/hvpatch') else set()
    assert not [name for name in left - journals if not journal_of_somebody(name)], left


def journal_of_somebody(name):
    """Other tests' VMs have journals, too: theirs are there as long as they are."""
    return os.path.exists(f'/proc/{name.split("-", 1)[0]}')


@case('module-of-the-guest-own-initrd-PASS', '6.1')
def _(stage):
    modules = os.path.join(script('path', stage.release), 'image', 'lib', 'modules')
    loop = os.path.join(modules, stage.release, 'kernel', 'drivers', 'block', 'loop.ko')
    # hvp_mixcheck is only in the initramfs of the tests.
    workload = stage.workload('set -e; command -v hvp_mixcheck; echo > /tmp/disk\n'
                              'truncate -s 65536 /tmp/disk; losetup /dev/loop0 /tmp/disk\n'
                              'cat /sys/block/loop0/loop/offset; losetup -d /dev/loop0')
    result = stage.rehearse('hvp_object', '--initrd', script('initramfs', stage.release),
                            '--module', loop, '--workload', workload)
    assert result.status == PASSED and result.json['verdict'] == 'pass', result
    function, = result.json['functions']
    assert function['object'] == 'loop', result
    # Watched in the module as long as it is there: one run with the patch, one after it.
    assert function['old_calls'] == function['redirected_calls'] == function['new_calls'] == 1, \
        result
    assert 'hvpatch in a module' in result.json['rounds'][0]['workload_output'], result


@case('branch-not-taken-NAMED', '6.12')
def _(stage):
    result = stage.rehearse('hvp_special', '--html', stage.path('report.html'), '--workload',
                            stage.workload('echo rehearsal > /proc/self/comm'))
    assert result.status == PASSED and result.json['verdict'] == 'pass', result
    function, = result.json['functions']
    coverage = function['coverage']
    assert 0 < coverage['executed'] < coverage['blocks'], result
    assert len(coverage['never_run']) == coverage['blocks'] - coverage['executed'], result
    assert all(re.fullmatch(r'hvp_comm_write(\.cold)?\+0x[0-9a-f]+', place)
               for place in coverage['never_run']), result
    assert function['new_calls'] == 1, result
    rows = Page(stage.path('report.html')).rows
    assert 'ran' in rows and 'never' in rows, rows


@case('old-code-ran-FAIL', '6.12')
def _(stage):
    """By a build of hvpatch that switches while a task sleeps in the old function."""
    build = os.path.join(os.path.dirname(os.path.realpath(hvpatch_path())), '..')
    blind = os.path.join(build, 'tests', 'tools', 'hvpatch-blind')
    if not os.path.exists(blind):
        raise Skip('hvpatch-blind is not beside the hvpatch under test')
    workload = stage.workload(
        'if grep -q "^hvp_sleeper " /proc/modules; then\n'
        '    echo > /tmp/fifo\n'
        '    while pgrep cat; do sleep 0.1; done\n'
        'elif [ ! -p /tmp/fifo ]; then\n'
        f'   mkfifo /tmp/fifo; {ENTER_FIFO}\n'
        'fi')
    environment = {'HVPATCH_KEEPER': os.path.join(build, 'hv-patcher', 'hvpatch-keeper'),
                   'HVPATCH_PLUGIN': os.environ.get('HVPATCH_PLUGIN') or os.path.join(
                       build, 'qemu-plugin', 'libhvpatch-plugin.so')}
    result = stage.rehearse('hvp_sleeper', '--no-prod', '--workload', workload, '--html',
                            stage.path('report.html'), program=blind, environment=environment)
    assert result.status == VERDICT_FAILED and result.json['verdict'] == 'fail', result
    violations = result.json['violations']
    assert any(re.match(r'wait_for_partner\+0x', each['place']) for each in violations), result
    assert all(each['round'] == 1 and each['count'] > 0 and each['vcpu'] in (0, 1)
               for each in violations), result
    with open(stage.path('report.html')) as stream:
        assert 'wait_for_partner+0x' in stream.read()


@case('kernel-warns-FAIL', '6.1')
def _(stage):
    """With the patch, and a while after the last run of the workload."""
    workload = ('echo warn > /proc/self/comm\n'
                'if grep -q "^hvp_special " /proc/modules; then\n'
                '    touch /tmp/patched\n'
                'elif [ -e /tmp/patched ]; then\n'
                '    (sleep 0.5; echo "<4>late words" > /dev/kmsg) &\n'
                'fi')
    result = stage.rehearse('hvp_special', '--workload', stage.workload(workload))
    assert result.status == VERDICT_FAILED and result.json['verdict'] == 'fail', result
    assert result.json['code'] is None and 'warned' in result.json['reasons'][0], result
    against = [message['text'] for message in result.json['messages']
               if message['kind'] == 'against']
    assert 'hvp_special: asked to warn' in against and 'late words' in against, result
    # What ends the messages is none.
    assert not any('settled' in message['text'] for message in result.json['messages']), result
    assert result.json['rounds'][0]['revert']['result'] == 'reverted', result


@case('no-such-function-NOT_APPLICABLE', '6.12')
def _(stage):
    result = stage.rehearse('hvp_missing')
    assert result.status == NOT_APPLICABLE and result.json['verdict'] == 'fail', result
    assert not result.json['applicable'] and result.json['rounds'] == [], result
    assert 'no_such_function' in result.json['message'], result
    assert any(not item['ok'] for item in result.json['items']), result


@case('sleeper-BUSY', '6.1')
def _(stage):
    workload = stage.workload(f'mkfifo /tmp/fifo\n{ENTER_FIFO}')
    result = stage.rehearse('hvp_sleeper', '--workload', workload, '--no-prod', '--timeout', '3')
    assert result.status == BUSY and result.json['verdict'] == 'fail', result
    assert result.json['code'] == 'BUSY', result
    apply = result.json['rounds'][0]['apply']
    assert apply['result'] == 'busy' and apply['blockers'][0]['comm'] == 'cat', result
    assert apply['blockers'][0]['function'] == 'wait_for_partner', result
    assert result.json['rounds'][0]['revert'] is None, result


@case('workload-fails-with-the-patch-FAIL', '6.12')
def _(stage):
    result = stage.rehearse('hvp_cmdline', '--rounds', '3', '--workload',
                            stage.workload(f'echo said; {PATCHED} && exit 5; exit 0'))
    assert result.status == VERDICT_FAILED and result.json['verdict'] == 'fail', result
    first = result.json['rounds'][0]
    assert first['workload_status'] == 5 and first['workload_status_after'] == 0, result
    assert 'exit status 5' in result.json['reasons'][0], result
    assert first['workload_output'] == ['said'], result


@case('workload-hangs-FAIL', '6.1')
def _(stage):
    workload = stage.workload(f'{PATCHED} && while :; do echo again; sleep 1; done\nexit 0')
    result = stage.rehearse('hvp_cmdline', '--workload', workload, '--workload-timeout', '10')
    assert result.status == VERDICT_FAILED and result.json['verdict'] == 'fail', result
    assert 'within 10 s' in result.json['message'], result
    assert result.json['rounds'][0]['workload_status'] is None, result


# --- no guest at all ---------------------------------------------------------

def assert_failed(result, *words):
    assert result.status == FAILED, result
    assert all(word in result.json['message'] for word in words), result


@case('no-kernel-no-QEMU-no-plugin-FAILED', '6.1')
def _(stage):
    with open(stage.path('text'), 'w') as stream:
        stream.write('no kernel\n' * 1000)
    assert_failed(stage.rehearse('hvp_cmdline', kernel=stage.path('text')), 'bzImage',
                  stage.path('text'))
    assert_failed(stage.rehearse('hvp_cmdline', kernel=stage.path('nothing')), 'nothing')
    os.mkfifo(stage.path('fifo'))
    result = stage.rehearse('hvp_cmdline', kernel=stage.path('fifo'))
    assert result.status == 2 and 'regular' in result.json['message'], result
    assert_failed(stage.rehearse('hvp_cmdline', '--qemu', 'no-such-qemu'), 'no-such-qemu')
    assert_failed(stage.rehearse('hvp_cmdline', '--plugin', stage.path('no.so')), 'no.so')
    assert_failed(stage.rehearse('hvp_cmdline', '--workload', stage.path('none')), 'none')
    # Before the guest boots: there is no verdict.
    result = stage.rehearse('hvp_cmdline', '--html', stage.path('no/report.html'))
    assert_failed(result, stage.path('no/report.html: No such file'))
    assert 'verdict' not in result.json, result
    assert_failed(stage.rehearse('hvp_cmdline', '--html', stage.path('report.html'),
                                 kernel=stage.path('text')), 'bzImage')
    assert not os.path.exists(stage.path('report.html'))
    # QEMU's own words, where it does not start.
    assert_failed(stage.rehearse('hvp_cmdline', '--plugin', stage.path('text')), 'ended', 'text')


# --- killed ------------------------------------------------------------------

def kill_when(stage, sign, seen, *arguments):
    """Kills a rehearsal as soon as something is seen of it."""
    process = stage.start('hvp_cmdline', *arguments)
    deadline = time.monotonic() + LONG / 4
    try:
        while not seen():
            assert time.monotonic() < deadline and process.poll() is None, 'it was not seen'
            time.sleep(0.01)
        process.send_signal(sign)
        assert process.wait(timeout=30) == -sign
    except BaseException as error:
        process.kill()
        raise AssertionError(str(Result(process))) from error
    process.stdout.close()
    process.stderr.close()
    stage.assert_nothing_left(30)


@case('killed-at-boot-and-in-apply-NOTHING-LEFT', '6.12')
def _(stage):
    def journal():
        return glob.glob(os.path.join(stage.scratch, '*', '*.journal'))

    for sign in (signal.SIGKILL, signal.SIGTERM):
        kill_when(stage, sign, stage.processes)
    kill_when(stage, signal.SIGKILL, journal, '--workload', stage.workload('exit 0'))


if __name__ == '__main__':
    suite.main()
