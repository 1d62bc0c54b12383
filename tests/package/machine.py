# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with systemd that is nothing but namespaces: this host's files with a layer above them
that is gone afterwards; processes, cgroup, network and name of its own; systemd, the first process.

    with Machine() as machine:
        machine.write('/etc/systemd/system/x.service', text)
        machine.run('systemctl start x')
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time

from cases import Skip

TOOLS = ('unshare', 'nsenter', 'mount', 'pivot_root', 'dbus-daemon')
SYSTEMD = '/lib/systemd/systemd'
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
BOOT_SECONDS, RUN_SECONDS = 60, 60
# Of this host's services none starts.
TARGET = """[Unit]
Requires=basic.target dbus.socket
After=basic.target dbus.socket
"""
MASKED = ('systemd-udevd.service', 'systemd-udev-trigger.service', 'systemd-remount-fs.service',
          'systemd-networkd.service', 'systemd-resolved.service', 'tmp.mount')
BOOT = r'''
set -e
place=$1 root=$1/root
echo 0 > "$2/cgroup.procs"
exec unshare --cgroup sh -ec '
place=$1 root=$1/root
mount -t tmpfs none "$place"
mkdir "$place/upper" "$place/work" "$root"
mount -t overlay none -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 none "$root/dev"
for name in null zero full random urandom tty; do
    : > "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs none "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs none "$root/tmp"
mount -t tmpfs none "$root/sys"
mkdir -p "$root/sys/fs/cgroup" "$root/sys/devices/system"
mount --rbind /sys/devices/system "$root/sys/devices/system"
mount -t cgroup2 none "$root/sys/fs/cgroup"
rm -rf "$root"/etc/systemd/system/*.wants "$root/usr/sbin/policy-rc.d"
printf %s "$2" > "$root/etc/systemd/system/hvp-test.target"
for path in $6; do
    mkdir -p "$root$path"
    mount --bind "$path" "$root$path"
done
for unit in $3; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
echo uninitialized > "$root/etc/machine-id"
cd "$root"
mkdir -p old
mount --make-rprivate /
pivot_root . old
umount -l old
exec env -i container=hvp-test PATH="$4" "$5" --system --unit=hvp-test.target \
    --log-target=null
' sh "$place" "$3" "$4" "$5" "$6" "$7"
'''


def missing():
    """Why there can be no such machine here; None if there can."""
    tools = [tool for tool in TOOLS if not shutil.which(tool, path=PATH)]
    if tools or not os.path.exists(SYSTEMD):
        return f'{", ".join(tools) or "systemd"} missing'
    return None if os.geteuid() == 0 else 'to be root is needed'


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def cgroup_mount():
    with open('/proc/mounts') as stream:
        for line in stream:
            if line.split()[2] == 'cgroup2':
                return line.split()[1]
    raise Skip('there is no cgroup2')


class Machine:
    """shared: folders of this host's that are in it, too, at the same paths, wherever they lie."""

    def __init__(self, shared=()):
        self._shared = shared
        self._place = self._group = self._process = self._first = None

    def __enter__(self):
        reason = missing()
        if reason:
            raise Skip(reason)
        self._place = tempfile.mkdtemp(prefix='hvp-machine-')
        self._group = os.path.join(cgroup_mount(), os.path.basename(self._place))
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _boot(self):
        try:
            os.mkdir(self._group)
        except OSError as error:
            raise Skip(f'no cgroup of its own: {error}') from error
        with open(os.path.join(self._place, 'log'), 'w') as log:
            self._process = subprocess.Popen(
                ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--net', '--uts', '--ipc',
                 '--propagation', 'private', 'sh', '-c', BOOT, 'sh', self._place, self._group,
                 TARGET, ' '.join(MASKED), PATH, SYSTEMD, ' '.join(self._shared)],
                stdout=log, stderr=log, preexec_fn=die_with_parent)
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(os.path.join(self._place, 'log')) as log:
                    raise Skip('systemd does not run in namespaces here: ' + ' '.join(
                        log.read().split('\n'))[-300:])
            time.sleep(0.1)

    def _is_up(self):
        try:
            with open(f'/proc/{self._process.pid}/task/{self._process.pid}/children') as stream:
                self._first = int(stream.read().split()[0])
            with open(f'/proc/{self._first}/comm') as stream:
                if stream.read() != 'systemd\n':
                    return False
        except (IndexError, OSError):
            return False
        return self.run('systemctl is-active -q hvp-test.target', check=False).returncode == 0

    def __exit__(self, *_):
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        for folder, _, _ in sorted(os.walk(self._group), reverse=True):
            self._remove_group(folder)
        shutil.rmtree(self._place, ignore_errors=True)

    @staticmethod
    def _remove_group(folder):
        """Whoever was in it takes a moment to end."""
        for _ in range(50):
            try:
                os.rmdir(folder)
                return
            except OSError:
                time.sleep(0.1)

    def path(self, path):
        """Of a file of the machine's, as it is seen from here."""
        return f'/proc/{self._first}/root{path}'

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), 'w') as stream:
            stream.write(text)
        os.chmod(self.path(path), mode)

    def copy(self, source, path):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        shutil.copy(source, self.path(path))

    def read(self, path):
        with open(self.path(path)) as stream:
            return stream.read()

    def run(self, script, check=True, seconds=RUN_SECONDS):
        """In a shell of the machine's; a finished process with text output."""
        result = subprocess.run(
            ['nsenter', '--target', str(self._first), '--mount', '--pid', '--ipc', '--net',
             '--uts', 'env', '-i', f'PATH={PATH}', 'sh', '-c', script],
            capture_output=True, text=True, check=False, timeout=seconds)
        assert not check or result.returncode == 0, (script, result)
        return result
