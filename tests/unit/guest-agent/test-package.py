#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian package of the agent: test-package.py SCRIPT BUILD

SCRIPT is scripts/build-agent-deb, BUILD the build folder.
"""

import filecmp
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from cases import Skip, run_cases

SERVICE = 'hvpatch-agent.service'
DEVICE = '/dev/virtio-ports/org.hvpatch.agent.0'
MODES = {'usr/sbin/hvpatch-agent': 0o755,
         f'usr/lib/systemd/system/{SERVICE}': 0o644,
         'usr/lib/udev/rules.d/60-hvpatch-agent.rules': 0o644,
         'usr/share/doc/hvpatch-agent/copyright': 0o644,
         'usr/share/doc/hvpatch-agent/guest-agent.md': 0o644}
# systemd-analyze security: 10.0 is a service without any sandbox.
MAX_EXPOSURE = 25
PATIENCE_SECONDS = 20


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True,
                          timeout=PATIENCE_SECONDS, **options).stdout


def need(tool):
    if not shutil.which(tool):
        raise Skip(f'{tool} is missing')


def make_package(script, build, folder):
    if not os.path.exists(os.path.join(build, 'guest-agent', 'hvpatch-agent')):
        raise Skip('hvpatch-agent for guests is missing (musl-gcc)')
    need('dpkg-deb')
    return run(script, build, folder).strip()


def files_below(folder):
    return {os.path.relpath(os.path.join(path, name), folder): os.stat(
        os.path.join(path, name)).st_mode & 0o7777
        for path, _, names in os.walk(folder) for name in names}


def case_unpacks(script, build):
    with tempfile.TemporaryDirectory() as folder:
        package = make_package(script, build, folder)
        tree = os.path.join(folder, 'tree')
        run('dpkg-deb', '-x', package, tree)
        assert files_below(tree) == MODES, files_below(tree)
        version = run(os.path.join(tree, 'usr/sbin/hvpatch-agent'), '--version').split()[1]
        assert run('dpkg-deb', '-f', package, 'Version').strip() == version
        assert not run('dpkg-deb', '-f', package, 'Depends').strip()
        owners = {line.split()[1] for line in run('dpkg-deb', '-c', package).splitlines()}
        assert owners == {'root/root'}, owners


def case_same_bytes_again(script, build):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        assert filecmp.cmp(make_package(script, build, one), make_package(script, build, two),
                           shallow=False)


def make_root(folder):
    """An image's root that can run maintainer scripts."""
    busybox = shutil.which('busybox')
    if os.geteuid() != 0 or not busybox:
        raise Skip('busybox and to be root are needed')
    for name in ('bin', 'var/lib/dpkg/updates', 'var/lib/dpkg/info'):
        os.makedirs(os.path.join(folder, name))
    shutil.copy(busybox, os.path.join(folder, 'bin/sh'))
    with open(os.path.join(folder, 'var/lib/dpkg/status'), 'w'):
        pass


def case_installed_into_an_image_and_removed(script, build):
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, 'root')
        package = make_package(script, build, folder)
        make_root(root)
        environment = {**os.environ, 'PATH': os.environ['PATH'] + ':/usr/sbin:/sbin'}
        run('dpkg', f'--root={root}', '--install', package, env=environment)
        status = run('dpkg-query', f'--admindir={root}/var/lib/dpkg', '-W', '-f', '${Status}',
                     'hvpatch-agent')
        assert status == 'install ok installed', status
        assert MODES.keys() <= files_below(root).keys()
        run('dpkg', f'--root={root}', '--purge', 'hvpatch-agent', env=environment)
        assert not MODES.keys() & files_below(root).keys(), files_below(root)


def case_maintainer_scripts_on_a_running_system(script, build):
    """What they call, and that a failure of it is no failure of the package."""
    with tempfile.TemporaryDirectory() as folder:
        run('dpkg-deb', '-e', make_package(script, build, folder), f'{folder}/control')
        for name in ('systemctl', 'udevadm'):
            with open(f'{folder}/{name}', 'w') as stream:
                stream.write(f'#!/bin/sh\necho {name} "$@" >> {folder}/log\nexit 1\n')
            os.chmod(f'{folder}/{name}', 0o755)
        for name, action in (('postinst', 'configure'), ('prerm', 'remove'), ('postrm', 'remove')):
            with open(f'{folder}/control/{name}') as stream:
                text = stream.read().replace('/run/systemd/system', folder)
            run('sh', '-c', text, name, action, env={'PATH': f'{folder}:/usr/bin:/bin'})
        with open(f'{folder}/log') as stream:
            said = stream.read()
        assert 'systemctl stop hvpatch-agent.service' in said, said
        assert 'udevadm trigger --action=add --subsystem-match=virtio-ports' in said, said


def case_service_is_sound_and_shut_in(script, build):
    need('systemd-analyze')
    with tempfile.TemporaryDirectory() as folder:
        run('dpkg-deb', '-x', make_package(script, build, folder), f'{folder}/root')
        units = next(path for path in ('/usr/lib/systemd/system', '/lib/systemd/system')
                     if os.path.exists(os.path.join(path, 'sysinit.target')))
        shutil.copytree(units, f'{folder}/root/usr/lib/systemd/system', symlinks=True,
                        dirs_exist_ok=True)
        result = subprocess.run(['systemd-analyze', 'verify', f'--root={folder}/root',
                                 '--man=no', SERVICE], capture_output=True, text=True)
        complaints = [line for line in result.stderr.splitlines() if 'hvpatch' in line]
        assert not complaints, complaints
        run('systemd-analyze', 'security', '--offline=true', f'--threshold={MAX_EXPOSURE}',
            f'--root={folder}/root', SERVICE)


def case_service_waits_for_the_port(script, build):
    need('systemd-escape')
    unit = run('systemd-escape', '--path', '--suffix=device', DEVICE).strip()
    with tempfile.TemporaryDirectory() as folder:
        run('dpkg-deb', '-x', make_package(script, build, folder), folder)
        with open(f'{folder}/usr/lib/systemd/system/{SERVICE}') as stream:
            service = stream.read()
        with open(f'{folder}/usr/lib/udev/rules.d/60-hvpatch-agent.rules') as stream:
            rule = stream.read()
        assert f'BindsTo={unit}\n' in service and f'After={unit}\n' in service, service
        assert f'ATTR{{name}}=="{os.path.basename(DEVICE)}"' in rule, rule
        assert f'SYSTEMD_WANTS}}="{SERVICE}"' in rule, rule


def allowed_calls(service):
    """The system calls that the service's filter lets through; execve is before it."""
    allowed = set()
    lines = re.findall(r'^SystemCallFilter=(~?)(.*)$', service, re.MULTILINE)
    for minus, words in lines + [('', '@default')]:
        calls, pending = set(), words.split()
        while pending:
            word = pending.pop()
            if not word.startswith('@'):
                calls.add(word)
                continue
            pending += [line.strip() for line in run('systemd-analyze', 'syscall-filter',
                                                     word).splitlines()[1:]
                        if line.strip() and not line.strip().startswith('#')]
        allowed = allowed - calls if minus else allowed | calls
    return allowed


def case_service_allows_its_system_calls(script, build):
    """All that it does, under strace: requests, a watch, a host that goes."""
    need('strace')
    need('systemd-analyze')
    with tempfile.TemporaryDirectory() as folder:
        run('dpkg-deb', '-x', make_package(script, build, folder), folder)
        with open(f'{folder}/usr/lib/systemd/system/{SERVICE}') as stream:
            allowed = allowed_calls(stream.read())
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f'{folder}/port')
            server.listen()
            server.settimeout(PATIENCE_SECONDS)
            # -D: the agent is our child, strace goes with it.
            agent = subprocess.Popen(['strace', '-D', '-o', f'{folder}/trace',
                                      f'{folder}/usr/sbin/hvpatch-agent', '--path',
                                      f'{folder}/port'], stdin=subprocess.DEVNULL)
            try:
                for _ in range(2):
                    talk(server.accept()[0])
            finally:
                agent.kill()
                agent.wait(PATIENCE_SECONDS)
        used = set(re.findall(r'^(\w+)\(', whole_trace(f'{folder}/trace'), re.MULTILINE))
        # A service has a device, not a socket.
        used -= {'execve', 'socket', 'connect'}
        assert {'read', 'write', 'openat', 'poll'} <= used or 'ppoll' in used, used
        assert used <= allowed, used - allowed


def whole_trace(path):
    """strace writes the end a moment later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with open(path) as stream:
            text = stream.read()
        if '+++ killed' in text:
            return text
        time.sleep(0.05)
    raise AssertionError('the trace has no end')


def talk(connection):
    watch = b'{"execute":"guest-hvpatch-watch-kthreads","arguments":{"enable":true}}\n'
    with connection, connection.makefile('rb') as stream:
        connection.settimeout(PATIENCE_SECONDS)
        for request in (b'{"execute":"guest-hvpatch-get-kthreads","arguments":{"stack":true}}\n',
                        b'{"execute":"guest-hvpatch-get-modules"}\n',
                        watch):
            connection.sendall(request)
            assert stream.readline().startswith((b'{"return"', b'{"error"'))


if __name__ == '__main__':
    sys.exit(run_cases(globals(), *sys.argv[1:]))
