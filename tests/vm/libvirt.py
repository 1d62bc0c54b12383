# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are domains of a libvirt of their own.

    suite = Suite('6.1', guest_class=LibvirtGuest)
    ...
    if __name__ == '__main__':
        main(suite)

The whole script runs in mount and PID namespaces of its own: libvirt's folders are empty ones in
memory, a libvirtd runs in there with default paths, and with the script everything ends. What the
host has of libvirt is neither seen nor touched. Needs root; without it, or without libvirt, each
case is skipped.
"""

import contextlib
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from xml.sax.saxutils import escape

from channel import Channel, ChannelClosed, ChannelTimeout
from guest import Guest, GuestError, die_with_parent, hvpatch_path, script
from qmp import Qmp, QmpGone
from tap import Skip

URI = 'qemu:///system'
TOOLS = ('libvirtd', 'virsh', 'unshare', 'mount')
INSIDE = 'HVPATCH_TEST_LIBVIRT'
FOLDERS = ('/etc/libvirt', '/run/libvirt', '/run/hvpatch', '/var/lib/hvpatch', '/var/lib/libvirt',
           '/var/cache/libvirt', '/var/log/libvirt')
CONFIGURATION = {
    '/etc/libvirt/libvirtd.conf': ('unix_sock_group = "root"\nauth_unix_rw = "none"\n'
                                   'auth_unix_ro = "none"\nlog_outputs = "3:stderr"\n'),
    '/etc/libvirt/qemu.conf': ('security_driver = "none"\nuser = "root"\ngroup = "root"\n'
                               'dynamic_ownership = 0\nremember_owner = 0\n'
                               'cgroup_controllers = []\nnamespaces = []\n'
                               'stdio_handler = "file"\n'),
}
OTHER_NAME, OTHER_UUID = 'hvp-other-host', '6f1d3a52-0000-4000-8000-000000000002'
# The driver looks these up, configured or not; and hosts that migrate each other's name.
ADDITIONS = {'/etc/passwd': 'libvirt-qemu:x:64055:64055::/nonexistent:/bin/false\n',
             '/etc/group': 'libvirt-qemu:x:64055:\nlibvirt:x:64056:\n',
             '/etc/hosts': f'127.0.0.1 {socket.gethostname()} {OTHER_NAME}\n'}
LOG = '/var/log/libvirt/libvirtd.log'
PID_FILE = '/run/libvirt/libvirtd.pid'
DAEMON_SECONDS = 60
LOCK = '/tmp/hvpatch-test-libvirt.lock'
DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory><vcpu>{smp}</vcpu>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 panic=-1</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'>
    <model>qemu64</model><feature name='cx16' policy='disable'/>
  </cpu>
  <on_crash>preserve</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    <serial type='file'><source path='{console}'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='{channel}'/><target port='1'/></serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>{arguments}</qemu:commandline>
</domain>
"""
# Under KVM runs the bare-metal guest of tests/kvm alone: what is found in there is no kernel.
KVM_NAME = 'hvp-bare-metal'
KVM_DOMAIN = """
<domain type='kvm'>
  <name>{name}</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>{image}</loader></os>
  <devices><emulator>{emulator}</emulator><memballoon model='none'/></devices>
</domain>
"""


def missing():
    """Why there can be no libvirt here; None if there can."""
    path = os.environ['PATH'] + ':/usr/sbin'
    tools = [tool for tool in TOOLS if not shutil.which(tool, path=path)]
    if tools:
        return f'{", ".join(tools)} not installed'
    if os.geteuid() != 0:
        return 'needs root'
    return None


def virsh(*arguments, check=True, uri=URI, timeout=60):
    """Runs virsh; returns what it prints, stripped."""
    result = subprocess.run(['virsh', '-q', '-c', uri, *arguments], capture_output=True, text=True,
                            check=False, timeout=timeout)
    if check and result.returncode != 0:
        raise AssertionError(f'virsh {" ".join(arguments)}: {result.stderr.strip()}')
    return result.stdout.strip()


class Daemon:
    """The libvirtd of the namespace, or of another host (enter: how to run a program there)."""

    def __init__(self, enter=(), log=LOG):
        self._process = None
        self._enter, self._log = enter, log

    def start(self):
        with open(self._log, 'a') as log:
            self._process = subprocess.Popen(
                [*self._enter, '/usr/sbin/libvirtd', '--pid-file', PID_FILE],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + DAEMON_SECONDS
        while subprocess.run([*self._enter, 'virsh', '-q', '-c', URI, 'list'],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(self._log, errors='replace') as log:
                    lines = log.read().splitlines()[-2:]
                raise Skip('libvirtd does not run here: ' + ' | '.join(lines))
            time.sleep(0.05)

    def ensure(self):
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self):
        """It dies, domains live on."""
        self._process.kill()
        self._process.wait()

    def freeze(self):
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self._process.pid, signal.SIGCONT)


daemon = Daemon()


class OtherHost:
    """A second host as far as libvirt and hvpatch can tell: mounts, processes and a name of its
    own, libvirt's and hvpatch's folders empty, a libvirtd. Files elsewhere are those of this one.

    root: where its files are seen from here; enter: how to run a program there; folder: one that
    both have."""

    def __init__(self):
        self._first = self.folder = None
        self.root = self.enter = self.daemon = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='hvp-')
        # bash, for it reaps; it ends, and all with it, when its stdin does.
        self._first = subprocess.Popen(
            ['unshare', '--mount', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc',
             '--propagation', 'private', 'bash', '-c', f'hostname {OTHER_NAME} && echo && read'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        if not self._first.stdout.read(1):
            raise Skip('no second host: unshare with a host name of its own fails here')
        with open(f'/proc/{self._first.pid}/task/{self._first.pid}/children') as stream:
            pid = stream.read().split()[0]
        self.root = f'/proc/{pid}/root'
        self.enter = ('nsenter', '--target', pid, '--mount', '--uts', '--pid')
        _make_folders(self.root, self.enter)
        with open(f'{self.root}/etc/libvirt/libvirtd.conf', 'a') as stream:
            stream.write(f'host_uuid = "{OTHER_UUID}"\n')
        # What QEMU can do takes seconds to find out.
        shutil.copytree('/var/cache/libvirt', f'{self.root}/var/cache/libvirt', dirs_exist_ok=True)
        self.daemon = Daemon(self.enter, self.root + LOG)
        self.daemon.start()
        return self

    def __exit__(self, *_):
        self._first.stdin.close()
        self._first.stdout.close()
        self._first.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def uri(self):
        """How its libvirtd is reached from here."""
        return f'qemu+unix:///system?socket={self.root}/run/libvirt/libvirt-sock'

    def share(self, folder, *names):
        """FOLDER is another one there, but for those files."""
        behind = '/run/hvpatch' + folder
        self.run('mkdir', '-p', behind)
        self.run('mount', '--bind', folder, behind)
        self.run('mount', '-t', 'tmpfs', 'tmpfs', folder)
        for name in names:
            with open(f'{self.root}{folder}/{name}', 'x'):
                pass
            self.run('mount', '--bind', f'{behind}/{name}', f'{folder}/{name}')

    def run(self, *command):
        subprocess.run([*self.enter, *command], check=True)


class LibvirtGuest(Guest):
    """A running domain with the kernel and initramfs of the other tests' guests. Options: smp,
    memory (MB), oracle.

    The test has a monitor of its own, beside libvirt's."""

    numbers = itertools.count(1)

    def __init__(self, kernel, *, smp=2, memory=512, **options):
        super().__init__(kernel, **options)
        self._smp, self._memory = smp, memory
        self.name = self.uuid = None

    def __enter__(self):
        reason = missing()
        if reason:
            raise Skip(reason)
        daemon.ensure()
        return super().__enter__()

    def _xml(self):
        arguments = ['-qmp', f'unix:{self.path("test.qmp")},server=on,wait=off']
        if self._plugin:
            arguments += ['-plugin', f'{self._plugin},socket={self.oracle_path}']
        return DOMAIN.format(
            name=escape(self.name), uuid=self.uuid, memory=self._memory, smp=self._smp,
            kernel=os.path.join(script('path', self.release), 'vmlinuz'),
            initrd=script('initramfs', self.release),
            emulator=shutil.which(os.environ.get('HVPATCH_QEMU', 'qemu-system-x86_64')),
            console=self.console_path, channel=self.path('channel'),
            arguments=''.join(f"<qemu:arg value='{escape(item)}'/>" for item in arguments))

    def _start(self):
        self.name, self.uuid = f'hvp-guest-{next(self.numbers)}', str(uuid.uuid4())
        with open(self.path('domain.xml'), 'w') as stream:
            stream.write(self._xml())
        self._boot()
        self.mark_dmesg()

    def _boot(self):
        try:
            virsh('create', self.path('domain.xml'))
            self.qmp = Qmp(self.path('test.qmp'), timeout=20)
            self._channel = Channel(self.path('channel'), timeout=20)
            self._channel.wait_for_hello(self._boot_timeout)
        except (AssertionError, OSError, QmpGone, ChannelClosed, ChannelTimeout) as error:
            raise GuestError(f'{self.release} did not boot: {error}\n{self.post_mortem()}'
                             ) from error

    def start_again(self):
        """After a destroy: the same domain, another QEMU."""
        self._close_lines()
        self._next_violation = self._final = 0
        self._boot()
        self.mark_dmesg()

    def wait_for_boot(self):
        """After a reset: the same QEMU, another kernel."""
        self._channel.wait_for_hello(self._boot_timeout)
        self.mark_dmesg()

    def _close_lines(self):
        for line in (self._channel, self.qmp):
            if line:
                line.close()

    def stop(self):
        self._close_lines()
        if self.name:
            daemon.ensure()
            virsh('destroy', self.name, check=False)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self):
        with open(f'/run/libvirt/qemu/{self.name}.pid') as stream:
            return int(stream.read())

    def hvpatch_command(self, *arguments, output='json', domain=None):
        command = super().hvpatch_command(*arguments, output=output)
        at = command.index('--qmp')
        return [*command[:at], '-d', domain or self.name, *command[at + 2:]]

    # --- what libvirt says ---

    @property
    def id(self):
        return virsh('domid', self.name)

    def state(self):
        return virsh('domstate', self.name)

    def wait_state(self, state, timeout=20):
        deadline = time.monotonic() + timeout
        while self.state() != state:
            assert time.monotonic() < deadline, f'{self.name} is {self.state()}, not {state}'
            time.sleep(0.02)

    def taints(self):
        """What libvirt says about its state beside the point."""
        return re.findall(r'tainted: (.*)', virsh('dominfo', self.name))


def bridges():
    """{pid: command line} of the programs that speak to libvirt for hvpatch."""
    found = {}
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f'/proc/{name}/cmdline') as stream:
            line = stream.read()
            if line.startswith('hvpatch-libvirt-monitor\0'):
                found[int(name)] = line
    return found


def _make_folders(root='', enter=()):
    """libvirt's folders, empty."""
    for folder in FOLDERS:
        subprocess.run([*enter, 'mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder],
                       check=True)
    for path, text in CONFIGURATION.items():
        with open(root + path, 'w') as stream:
            stream.write(text)


def _set_up_inside():
    """libvirt's folders, and accounts and hosts that it looks for."""
    _make_folders()
    for path, lines in ADDITIONS.items():
        copy = os.path.join('/etc/libvirt', os.path.basename(path))
        with open(path) as source, open(copy, 'w') as target:
            target.write(source.read() + lines)
        subprocess.run(['mount', '--bind', copy, path], check=True)


def _run_inside():
    """This script again, in namespaces of its own; returns its exit status.

    One such script at a time: a mount point that is removed goes from the other's namespace too.
    """
    lock = open(LOCK, 'w')
    fcntl.flock(lock, fcntl.LOCK_EX)
    made = [folder for folder in FOLDERS if not os.path.isdir(folder)]
    for folder in made:
        os.makedirs(folder)
    try:
        # bash is the first process of the namespace: it reaps whatever daemons leave.
        process = subprocess.Popen(
            ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc',
             '--propagation', 'private', 'bash', '-c', '"$@"; exit $?', 'bash', sys.executable,
             *sys.argv], env={**os.environ, INSIDE: '1'}, preexec_fn=die_with_parent)
        return process.wait()
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


@contextlib.contextmanager
def under_kvm(guest):
    """A further domain, under KVM."""
    build = os.path.dirname(os.path.dirname(os.path.realpath(hvpatch_path())))
    image = os.path.join(build, 'tests', 'kvm', 'kvm-guest.bin')
    if not os.path.exists(image) or not os.access('/dev/kvm', os.R_OK | os.W_OK):
        raise Skip('no /dev/kvm, or no bare-metal guest beside the hvpatch under test')
    path = guest.path('kvm.xml')
    with open(path, 'w') as stream:
        stream.write(KVM_DOMAIN.format(
            name=KVM_NAME, image=image,
            emulator=shutil.which(os.environ.get('HVPATCH_QEMU', 'qemu-system-x86_64'))))
    virsh('create', path)
    try:
        yield
    finally:
        virsh('destroy', KVM_NAME)


def inside(function):
    """Calls FUNCTION in this script, run again in those namespaces, and exits."""
    if os.environ.get(INSIDE):
        _set_up_inside()
        function()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(_run_inside())


def main(suite):
    """In place of suite.main()."""
    if missing() or '--list' in sys.argv:
        suite.main()
    else:
        inside(suite.main)


def hvpatch(*arguments, uri=None, output='json', environment=None):
    """Runs hvpatch on no guest in particular: a finished process with text output."""
    connect = ['-c', uri] if uri else []
    return subprocess.run([hvpatch_path(), *connect, '-o', output, *arguments],
                          capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, **(environment or {})})
