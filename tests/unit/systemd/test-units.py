#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's units: test-units.py SOURCE BUILD

SOURCE and BUILD are the folders systemd/ of the tree and of the build.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'guest-agent'))
from cases import Skip, run_cases  # pylint: disable=wrong-import-position

CORE, API = 'hvpatchd.service', 'hvpatch-apid.service'
SOCKETS = ('hvpatch-apid.socket', 'hvpatch-apid-tls.socket')
# systemd-analyze security: 10.0 is a service without any sandbox; docs/daemon.md names these.
MAX_EXPOSURE = {CORE: 2.3, API: 0.4}
# The most that the one that listens may have, whatever is added to it.
MAX_EXPOSURE_OF_LISTENER = 2.5
PATIENCE_SECONDS = 20
# Both halves of one, with a margin.
WORKER_MIB = 96


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True,
                          timeout=PATIENCE_SECONDS, **options).stdout


def need(tool):
    if not shutil.which(tool):
        raise Skip(f'{tool} is missing')


def read(path):
    """As systemd reads it where each key is there once: later ones of the same name are joined."""
    found = {}
    group = None
    with open(path) as stream:
        for line in stream.read().splitlines():
            if line.startswith('['):
                group = line.strip('[]')
            elif line and not line.startswith('#'):
                key, value = line.split('=', 1)
                at = (group, key)
                found[at] = f'{found[at]} {value}' if at in found else value
    return found


class Root:
    """An image's root with systemd's own units and ours, which name programs that are there."""

    def __init__(self, source, build):
        need('systemd-analyze')
        self.folder = tempfile.mkdtemp(prefix='hvp-')
        self.units = f'{self.folder}/usr/lib/systemd/system'
        own = next(path for path in ('/usr/lib/systemd/system', '/lib/systemd/system')
                   if os.path.exists(os.path.join(path, 'sysinit.target')))
        shutil.copytree(own, self.units, symlinks=True)
        for name in (CORE, API):
            shutil.copy(os.path.join(build, name), self.units)
        for name in SOCKETS:
            shutil.copy(os.path.join(source, name), self.units)
        for name in (CORE, API):
            for (_, key), value in read(f'{self.units}/{name}').items():
                if key.startswith('Exec'):
                    self.make_program(value.lstrip('-').split()[0])

    def make_program(self, path):
        os.makedirs(self.folder + os.path.dirname(path), exist_ok=True)
        shutil.copy('/bin/true', self.folder + path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)


def case_units_are_sound(source, build):
    with Root(source, build) as root:
        result = subprocess.run(['systemd-analyze', 'verify', f'--root={root.folder}', '--man=no',
                                 CORE, API, *SOCKETS], capture_output=True, text=True, check=False)
        complaints = [line for line in result.stderr.splitlines() if 'hvpatch' in line]
        assert not complaints, complaints


def case_units_are_shut_in(source, build):
    assert MAX_EXPOSURE[API] < MAX_EXPOSURE_OF_LISTENER
    with Root(source, build) as root:
        for name, most in MAX_EXPOSURE.items():
            said = run('systemd-analyze', 'security', '--offline=true', '--no-pager',
                       f'--root={root.folder}', name)
            found = float(re.search(r'Overall exposure level for \S+: ([\d.]+)', said).group(1))
            assert found <= most, (name, found, most)


def case_core_can_do_its_work(_, build):
    unit = read(os.path.join(build, CORE))
    capabilities = unit['Service', 'CapabilityBoundingSet'].split()
    # The keeper inherits it all: to stop, read, write; to be prompt; not to be paged out.
    assert {'CAP_SYS_PTRACE', 'CAP_SYS_NICE', 'CAP_IPC_LOCK'} <= set(capabilities), capabilities
    assert 'RestrictRealtime' not in {key for _, key in unit}
    assert 'ptrace' in unit['Service', 'SystemCallFilter'].split()
    assert unit['Service', 'LimitMEMLOCK'] == 'infinity'
    for key in ('ProtectProc', 'ProcSubset', 'PrivateUsers', 'User'):
        assert ('Service', key) not in unit, key


def case_core_leaves_its_journals_and_keepers(_, build):
    unit = read(os.path.join(build, CORE))
    assert unit['Service', 'RuntimeDirectoryPreserve'] == 'yes'
    assert unit['Service', 'KillMode'] == 'mixed'
    assert unit['Service', 'OOMPolicy'] == 'continue'
    for key in ('ExecStartPre', 'ExecStopPost'):
        assert unit['Service', key].startswith('-'), unit['Service', key]
        assert unit['Service', key].endswith('/hvpatch --direct recover --all'), key
    assert unit['Service', 'Type'] == 'notify' and int(unit['Service', 'WatchdogSec']) > 0


def case_bus_name_is_started_while_the_service_is_enabled(source, build):
    activation = read(os.path.join(source, 'org.hvpatch1.service'))
    unit = read(os.path.join(build, CORE))
    assert activation['D-BUS Service', 'Name'] == unit['Service', 'BusName'] == 'org.hvpatch1'
    assert activation['D-BUS Service', 'SystemdService'] == unit['Install', 'Alias']


def case_api_opens_no_socket_and_is_nobody(source, build):
    unit = read(os.path.join(build, API))
    assert unit['Service', 'User'] == 'hvpatch-apid'
    assert unit['Service', 'CapabilityBoundingSet'] == ''
    # That would start both, and so listen to the network: each names the service instead.
    assert ('Service', 'Sockets') not in unit
    assert unit['Unit', 'Requires'] == SOCKETS[0]
    for name in SOCKETS:
        assert read(os.path.join(source, name))['Socket', 'Service'] == API, name
    assert unit['Service', 'RestrictAddressFamilies'] == 'AF_UNIX'
    socket = read(os.path.join(source, SOCKETS[0]))
    assert socket['Socket', 'SocketMode'] == '0660' and socket['Socket', 'SocketGroup'] == 'hvpatch'


def case_users_and_folders(source, _):
    need('systemd-sysusers')
    need('systemd-tmpfiles')
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(f'{root}/etc')
        run('systemd-sysusers', f'--root={root}', os.path.join(source, 'sysusers.conf'))
        with open(f'{root}/etc/passwd') as stream:
            users = {line.split(':')[0]: line.strip().split(':')[6] for line in stream}
        assert users == {'hvpatch-apid': '/usr/sbin/nologin', 'hvpatch-worker': '/usr/sbin/nologin'}
        with open(f'{root}/etc/group') as stream:
            assert {'hvpatch', *users} == {line.split(':')[0] for line in stream}
        if os.geteuid() != 0:
            return
        run('systemd-tmpfiles', f'--root={root}', '--create', os.path.join(source, 'tmpfiles.conf'))
        for path, mode in (('run/hvpatch', 0o711), ('var/lib/hvpatch', 0o700)):
            assert os.stat(f'{root}/{path}').st_mode & 0o7777 == mode, path


def most(source, path, pattern):
    """The number that PATTERN finds in a file of hv-patcher/."""
    with open(os.path.join(source, '..', 'hv-patcher', path)) as stream:
        return int(re.search(pattern, stream.read(), re.DOTALL)[1])


def case_memory_is_enough_for_the_most_that_may_be_set(source, build):
    uploads = most(source, 'daemon/patch-store.c', r'MAX_UPLOADS (\d+)')
    patch_mib = most(source, 'patch/patch.h', r'HVP_PATCH_MAX_FILE_BYTES \((\d+)U << 20\)')
    count = most(source, 'daemon/config.c', r'MAX_WORKERS (\d+)') \
        + most(source, 'daemon/looks.c', r'MAX_AT_WORK (\d+)') + uploads
    needed = count * WORKER_MIB + 2 * 2 * uploads * patch_mib
    service = {key: value for (_, key), value in read(os.path.join(build, CORE)).items()}
    gibibytes = re.fullmatch(r'(\d+)G', service['MemoryMax'])
    assert needed <= int(gibibytes[1]) << 10, (needed, service['MemoryMax'])
    # What is swapped out is not counted, and what is slowed down is all of the service.
    assert service['MemorySwapMax'] == '0' and 'MemoryHigh' not in service, service
    with open(os.path.join(build, CORE)) as stream:
        text = stream.read()
    assert f': {count} of {WORKER_MIB} MiB' in text and f' {needed} MiB;' in text, (count, needed)


def case_descriptors_are_enough_for_the_most_that_may_be_set(source, build):
    connections = most(source, 'apid/settings.c', r'"max-connections",.*?1, (\d+),')
    handshakes = most(source, 'apid/handshakes.c', r'MAX_ALL (\d+)')
    uploads = most(source, 'apid/settings.c', r'"max-uploads",.*?1, (\d+),')
    workers = most(source, 'daemon/config.c', r'MAX_WORKERS (\d+)')
    needed = {API: connections + 2 * handshakes + 2 * uploads + 24,
              CORE: 4 * workers + 2 * most(source, 'daemon/looks.c', r'MAX_AT_WORK (\d+)')
              + 5 * most(source, 'daemon/patch-store.c', r'MAX_UPLOADS (\d+)') + 40}
    for name, count in needed.items():
        text = read(os.path.join(build, name))['Service', 'LimitNOFILE']
        assert count <= int(text), (name, count)
        with open(os.path.join(build, name)) as stream:
            assert f': {count}.' in stream.read(), (name, count)


def case_configuration_is_as_the_units(source, build):
    with open(os.path.join(source, 'hvpatchd.conf')) as stream:
        text = stream.read()
    parser = configparser.ConfigParser(strict=True)
    parser.read_string(text)
    assert parser['api']['user'] == read(os.path.join(build, API))['Service', 'User']
    # The examples are sound once their signs are gone.
    parser.read_string(re.sub(r'^#(?=[\[a-z])', '', text, flags=re.MULTILINE))


if __name__ == '__main__':
    sys.exit(run_cases(globals(), *sys.argv[1:]))
