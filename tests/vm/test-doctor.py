#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch doctor: what it finds on this host, of a domain and of a plain QEMU, and whether what it
prints mends it. It only looks: no domain is tainted by it.

Most VMs here have nothing to boot: what is looked at is QEMU.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from xml.sax.saxutils import escape

from agentport import BINARY, NAME, agent_path
from guest import die_with_parent, hvpatch_path
from libvirt import LOG, URI, LibvirtGuest, daemon, hvpatch, main, missing, virsh
from qmp import Qmp
from tap import Skip, Suite

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED = 0, 1, 2, 3, 4, 5
HOST_ITEMS = ['machine', 'kvm', 'ptrace', 'selinux', 'apparmor', 'qemu', 'libvirt', 'keeper',
              'bridge', 'journal', 'cache', 'plugin']
VM_ITEMS = ['vm', 'state', 'guest', 'accelerator', 'encryption', 'job', 'migration', 'debugger',
            'access', 'memory', 'agent', 'nested']
STATES = {'ok', 'warning', 'missing', 'unknown'}
NOBODY = 65534
# A shell would run it, a terminal show it, XML end at it.
BAD_NAME = 'web\';id>&2;"$(id)"<é>'
DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
  <devices><emulator>{emulator}</emulator><memballoon model='none'/></devices>
  <qemu:commandline>{arguments}</qemu:commandline>
</domain>
"""



class SerialGuest(LibvirtGuest):
    """With the controller of virtio-serial ports, which libvirt cannot plug in."""

    def _xml(self):
        return super()._xml().replace('<devices>', "<devices><controller type='virtio-serial'/>")


suite = Suite('6.1', guest_class=SerialGuest)


class Report:
    """One run of doctor."""

    def __init__(self, *arguments, prefix=(), environment=None):
        command = [*prefix, hvpatch_path(), '-o', 'json', *arguments, 'doctor']
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60,
                                env={**os.environ, **(environment or {})})
        self.status, self.text = result.returncode, result.stdout + result.stderr
        assert not result.stderr, self
        whole = json.loads(result.stdout)
        assert set(whole) == {'version', 'healthy', 'items'} and whole['version'] == 1, self
        for item in whole['items']:
            assert set(item) == {'item', 'state', 'why', 'remedy'}, self
            assert item['state'] in STATES and item['why'].isascii(), self
        self.items = {item['item']: item for item in whole['items']}
        self.names = [item['item'] for item in whole['items']]
        self.missing = {name for name, item in self.items.items() if item['state'] == 'missing'}
        assert whole['healthy'] == (not self.missing) == (self.status == DONE), self

    def __str__(self):
        return f'exit status {self.status}\n{self.text}'

    def is_(self, name, state, why=''):
        """Asserts the item's state and a pattern of its reason."""
        item = self.items[name]
        assert item['state'] == state and re.search(why, item['why']), f'{name}: {self}'
        return item

    def mend(self, name):
        """Runs what is printed for the item."""
        subprocess.run(['sh', '-ec', self.items[name]['remedy']], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)


def of_domain(name, **options):
    return Report('-c', URI, '-d', name, **options)


def needs_libvirt():
    if missing():
        raise Skip(missing())
    daemon.ensure()


@contextlib.contextmanager
def defined(name, arguments=()):
    """A persistent domain that is shut off; gone at the end."""
    needs_libvirt()
    text = DOMAIN.format(name=escape(name), emulator=shutil.which('qemu-system-x86_64'),
                         arguments=''.join(f"<qemu:arg value='{escape(each)}'/>"
                                           for each in arguments))
    with tempfile.NamedTemporaryFile('w', suffix='.xml') as stream:
        stream.write(text)
        stream.flush()
        virsh('define', stream.name)
    try:
        yield
    finally:
        virsh('destroy', name, check=False)
        virsh('undefine', name)


@contextlib.contextmanager
def qemu(*arguments):
    """A QEMU without libvirt: (socket for hvpatch, a Qmp of the test's)."""
    with tempfile.TemporaryDirectory(prefix='hvp-') as folder:
        socket = os.path.join(folder, 'a b.qmp')
        process = subprocess.Popen(
            ['qemu-system-x86_64', '-accel', 'tcg', '-m', '64', '-nodefaults', '-display', 'none',
             '-qmp', f'unix:{socket},server=on,wait=off', '-qmp',
             f'unix:{folder}/test.qmp,server=on,wait=off', *arguments],
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            monitor = Qmp(f'{folder}/test.qmp', timeout=20)
            yield socket, monitor
            monitor.close()
        finally:
            process.kill()
            process.wait()


def assert_untouched(name, state='running'):
    """Whatever doctor did, libvirt has seen none of it."""
    assert virsh('domstate', name) == state
    assert 'custom monitor' not in virsh('dominfo', name)
    with open(LOG, errors='replace') as stream:
        assert 'custom-monitor' not in stream.read()


# --- the host alone ---

@suite.case('host-alone-OK', guest=False)
def _():
    report = Report()
    assert report.names == HOST_ITEMS, report
    report.is_('machine', 'ok', 'x86_64')
    report.is_('qemu', 'ok', r'is \d+\.\d+\.\d+')
    report.is_('keeper', 'ok', 'hvpatch-keeper$')
    report.is_('bridge', 'ok', 'hvpatch-libvirt-monitor$')
    report.is_('kvm', 'ok' if os.path.exists('/dev/kvm') else 'warning')
    if os.geteuid() == 0:
        report.is_('ptrace', 'ok', 'hvpatch has CAP_SYS_PTRACE')
        assert report.status == DONE, report


@suite.case('table-has-a-remedy-below-each-item-OK', guest=False)
def _():
    result = hvpatch('doctor', output='table', environment={'HVPATCH_KEEPER': '/nonexistent'})
    lines = result.stdout.splitlines()
    assert re.fullmatch(r'ITEM +STATE +WHAT', lines[0]), result
    at = next(number for number, line in enumerate(lines) if line.startswith('keeper'))
    assert re.fullmatch(r'keeper +missing /nonexistent .*', lines[at]), result
    assert re.match(r'    meson install ', lines[at + 1]), result
    assert [line.split()[0] for line in lines[1:] if not line.startswith(' ')] == HOST_ITEMS


@suite.case('unreachable-libvirt-WARNING', guest=False)
def _():
    socket = '/nonexistent/socket'
    report = Report('-c', f'qemu+unix:///system?socket={socket}')
    report.is_('libvirt', 'warning', 'no connection')
    assert report.items['libvirt']['remedy'], report
    report = Report('-c', f'qemu+unix:///system?socket={socket}', '-d', 'any')
    report.is_('libvirt', 'missing', 'no connection')
    report.is_('vm', 'missing', 'no connection')
    assert report.status == FAILED and report.names == [*HOST_ITEMS, 'vm'], report


@suite.case('keeper-not-installed-FAILED', guest=False)
def _():
    report = Report(environment={'HVPATCH_KEEPER': '/nonexistent'})
    report.is_('keeper', 'missing', 'No such file')
    assert report.status == FAILED and report.missing == {'keeper'}, report
    report = Report(environment={'HVPATCH_KEEPER': '/etc/passwd'})
    report.is_('keeper', 'missing', 'Permission denied')
    assert report.status == REFUSED, report


@suite.case('plugin-not-there-WARNING', guest=False)
def _():
    report = Report(environment={'HVPATCH_PLUGIN': '/nonexistent'})
    report.is_('plugin', 'warning', 'no rehearsing')


@suite.case('not-root-PERMISSION', guest=False)
def _():
    if os.geteuid() != 0 or not shutil.which('setpriv'):
        raise Skip('needs root and setpriv')
    as_nobody = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups']
    if subprocess.run([*as_nobody, 'test', '-x', hvpatch_path()], check=False).returncode != 0:
        raise Skip('the build folder is for root alone')
    with tempfile.TemporaryDirectory(prefix='hvp-') as folder:
        os.chmod(folder, 0o755)
        environment = {'XDG_RUNTIME_DIR': folder, 'XDG_CACHE_HOME': folder}
        report = Report(prefix=as_nobody, environment=environment)
        report.is_('ptrace', 'warning' if 'ptrace' not in report.missing else 'missing',
                   'lacks CAP_SYS_PTRACE')
        report.is_('journal', 'missing', 'Permission denied')
        report.is_('cache', 'warning', 'Permission denied')
        assert report.status == REFUSED, report
        report.mend('journal')
        mode = os.stat(os.path.join(folder, 'hvpatch'))
        assert mode.st_uid == NOBODY and stat.S_IMODE(mode.st_mode) == 0o700, mode
        report = Report(prefix=as_nobody, environment=environment)
        report.is_('journal', 'ok')
        report.is_('cache', 'ok')


@suite.case('not-root-another-users-qemu-PERMISSION', guest=False)
def _():
    if os.geteuid() != 0 or not shutil.which('setpriv'):
        raise Skip('needs root and setpriv')
    as_nobody = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups']
    if subprocess.run([*as_nobody, 'test', '-x', hvpatch_path()], check=False).returncode != 0:
        raise Skip('the build folder is for root alone')
    with qemu() as (socket, _):
        os.chmod(os.path.dirname(socket), 0o755)
        os.chmod(socket, 0o777)
        report = Report('--qmp', socket, prefix=as_nobody)
        report.is_('access', 'missing', 'CAP_SYS_PTRACE')
        report.is_('migration', 'unknown')
        assert report.status == REFUSED, report


@suite.case('misuse-USAGE', guest=False)
def _():
    assert hvpatch('--core', '/nonexistent', 'doctor').returncode == USAGE
    assert hvpatch('doctor', 'web').returncode == USAGE
    assert hvpatch('complete', 'doctor').stdout == '--help\n'


# --- a plain QEMU ---

@suite.case('no-such-socket-FAILED', guest=False)
def _():
    report = Report('--qmp', '/nonexistent')
    report.is_('vm', 'missing', 'No such file')
    assert report.status == FAILED and 'state' not in report.items, report


@suite.case('qmp-private-memory-no-agent-OK', guest=False)
def _():
    with qemu('-cpu', 'qemu64,svm=off') as (socket, monitor):
        report = Report('--qmp', socket)
        assert report.status == DONE, report
        host = [name for name in HOST_ITEMS if name != 'libvirt']
        assert report.names == [*host, *VM_ITEMS], report
        for name in ('vm', 'state', 'guest', 'encryption', 'job', 'migration', 'debugger'):
            report.is_(name, 'ok')
        report.is_('accelerator', 'ok', '^tcg')
        report.is_('access', 'ok', r'\(uid 0\)')
        assert 'memory-backend-memfd' in report.is_('memory', 'ok', '^private')['remedy'], report
        report.is_('agent', 'warning', 'no channel')
        report.is_('nested', 'ok')
        assert monitor.status() == 'running'
        assert not {'STOP', 'RESUME'} & set(monitor.take_events())


@suite.case('qmp-shared-memory-agent-and-gdb-REFUSED', guest=False)
def _():
    with qemu('-object', 'memory-backend-memfd,id=ram,share=on,size=64M', '-machine',
              'pc,memory-backend=ram', '-cpu', 'qemu64,svm=on', '-gdb', 'tcp:127.0.0.1:0',
              '-device', 'virtio-serial-pci', '-chardev', 'null,id=hvpagent', '-device',
              f'virtserialport,chardev=hvpagent,name={NAME}') as (socket, _):
        report = Report('--qmp', socket)
        report.is_('memory', 'ok', '^shared')
        report.is_('agent', 'warning', 'nobody at it')
        report.is_('nested', 'warning')
        report.is_('debugger', 'missing', r'tcp:127\.0\.0\.1')
        assert report.status == REFUSED and report.missing == {'debugger'}, report


@suite.case('qmp-paused-REFUSED', guest=False)
def _():
    with qemu('-S') as (socket, monitor):
        report = Report('--qmp', socket)
        report.is_('state', 'missing', '^prelaunch')
        assert report.status == REFUSED, report
        assert monitor.status() == 'prelaunch'
        if shutil.which('socat'):
            report.mend('state')
        else:
            command = re.findall(r"echo '(\{.*?\})';", report.items['state']['remedy'])[1]
            monitor.execute(json.loads(command)['execute'])
        Report('--qmp', socket).is_('state', 'ok')


@suite.case('qmp-migration-BUSY', guest=False)
def _():
    with qemu() as (socket, monitor):
        monitor.execute('migrate', uri='exec:sleep 60')
        report = Report('--qmp', socket)
        report.is_('job', 'missing', r'migration \((setup|active)\)')
        assert report.status == BUSY and report.missing == {'job'}, report


@suite.case('qmp-snapshots-to-come-WARNING', guest=False)
def _():
    with qemu() as (socket, monitor):
        monitor.execute('migrate-set-capabilities', capabilities=[
            {'capability': 'postcopy-ram', 'state': True}])
        report = Report('--qmp', socket)
        item = report.is_('migration', 'warning', '^postcopy-ram on')
        assert report.status == DONE, report
        command = json.loads(re.findall(r"echo '(\{.*?\})';", item['remedy'])[1])
        monitor.execute(command['execute'], **command['arguments'])
        Report('--qmp', socket).is_('migration', 'ok')


# --- domains ---

@suite.case('no-such-domain-FAILED', guest=False)
def _():
    needs_libvirt()
    report = of_domain('nobody')
    report.is_('libvirt', 'ok', r'^qemu:///system is \d')
    item = report.is_('vm', 'missing', "no domain 'nobody'")
    assert report.status == FAILED, report
    subprocess.run(['sh', '-ec', item['remedy']], check=True, stdout=subprocess.DEVNULL)


def back_by_shared_memory(name, remedy):
    """What the remedy has its reader do in an editor."""
    edit, snippet = remedy.split('\n')
    assert re.match(r"virsh -c '\S+' edit [0-9a-f-]{36} ", edit), remedy
    snippet = snippet.removeprefix('# ')
    xml = virsh('dumpxml', name, '--inactive')
    with tempfile.NamedTemporaryFile('w', suffix='.xml') as stream:
        stream.write(xml.replace('</name>', '</name>' + snippet, 1))
        stream.flush()
        virsh('define', stream.name)


@suite.case('domain-mended-by-what-is-printed-OK', guest=False)
def _():
    with defined(BAD_NAME):
        report = of_domain(BAD_NAME)
        report.is_('state', 'missing', '^shut off')
        assert report.status == REFUSED and report.missing == {'state'}, report
        assert not {'job', 'migration', 'debugger', 'access'} & set(report.names), report
        report.is_('agent', 'warning', 'no channel')
        report.mend('agent')
        back_by_shared_memory(BAD_NAME, report.is_('memory', 'ok', '^private')['remedy'])
        report.mend('state')
        report = of_domain(BAD_NAME)
        assert report.status == DONE and report.names == [*HOST_ITEMS, *VM_ITEMS], report
        assert r'web\x27' not in report.text and r'\xc3\xa9' in report.items['vm']['why'], report
        report.is_('state', 'ok', '^running$')
        report.is_('accelerator', 'ok', 'custom-monitor')
        report.is_('memory', 'ok', '^shared, memfd')
        report.is_('agent', 'warning', 'nobody at it')
        for name in ('encryption', 'job', 'migration', 'debugger'):
            report.is_(name, 'ok')
        report.is_('access', 'ok', r'runs as root \(uid 0\)')
        virsh('suspend', BAD_NAME)
        report = of_domain(BAD_NAME)
        report.is_('state', 'missing', '^paused')
        assert report.status == REFUSED, report
        assert_untouched(BAD_NAME, 'paused')
        report.mend('state')
        of_domain(BAD_NAME).is_('state', 'ok')
        assert_untouched(BAD_NAME)
        taints = re.findall(r'tainted: (.*)', virsh('dominfo', BAD_NAME))
        assert taints == ['running with undesirable elevated privileges'], taints


@suite.case('domain-with-a-gdb-stub-REFUSED', guest=False)
def _():
    with defined('hvp-gdb', ['-gdb', 'tcp:127.0.0.1:0']):
        virsh('start', 'hvp-gdb')
        report = of_domain('hvp-gdb')
        report.is_('debugger', 'missing', r'tcp:127\.0\.0\.1:0')
        assert report.status == REFUSED and report.missing == {'debugger'}, report
        assert_untouched('hvp-gdb')


@suite.case('running-domain-gets-an-agent-OK', timeout=300)
def _(guest):
    report = of_domain(guest.name)
    assert report.status == DONE, report
    report.is_('memory', 'ok', '^shared, memfd')
    item = report.is_('agent', 'warning', 'no channel')
    assert '--config' not in item['remedy'], 'the domain is transient'
    report.mend('agent')
    of_domain(guest.name).is_('agent', 'warning', 'nobody at it')
    guest.check('modprobe -a virtio_pci virtio_console || '
                '(modprobe virtio_pci; modprobe virtio_console)')
    guest.wait_for(f'grep -qx {NAME} /sys/class/virtio-ports/*/name')
    if os.path.exists(agent_path()):
        guest.put_file(agent_path(), BINARY)
        guest.check(f'{BINARY} > /tmp/agent.log 2>&1 &')
        deadline = time.monotonic() + 20
        while of_domain(guest.name).items['agent']['state'] != 'ok':
            assert time.monotonic() < deadline, of_domain(guest.name)
    # What the kernel says of a new device.
    guest.mark_dmesg()
    assert_untouched(guest.name)


if __name__ == '__main__':
    main(suite)
