#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as it is installed: its packages in a machine with a real systemd, from the first
start over a patched guest and an upgrade to the purge. Nothing stands in for anything; libvirt is
its own test driver first, and then one with a Linux guest (guest-in-service.py).
"""

import contextlib
import functools
import json
import os
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path += [os.path.join(ROOT, 'tests', 'unit', 'guest-agent'), os.path.join(ROOT, 'tests', 'vm')]
from cases import Skip, run_cases  # pylint: disable=wrong-import-position
from debs import BUILD, packages  # pylint: disable=wrong-import-position
from guest import GuestError, prepare  # pylint: disable=wrong-import-position
from machine import Machine  # pylint: disable=wrong-import-position

CORE, API = 'hvpatchd.service', 'hvpatch-apid.service'
FOLDER, SOCKET = '/run/hvpatch', '/run/hvpatch/api.socket'
CONFIGURATION = '/etc/hvpatch/hvpatchd.conf'
INSTALLED = ('hvpatch', 'hvpatchd', 'python3-hvpatch')
KERNEL = '6.1'
SLOW_SECONDS, GUEST_SECONDS = 120, 400
# A second and a bit after the end: RestartSec.
RESTART_SECONDS = 30
UUIDS = {'web-1': 'a0000000-0000-4000-8000-000000000001',
         'db-1': 'a0000000-0000-4000-8000-000000000002'}
DOMAIN = "<domain type='test'><name>{}</name><uuid>{}</uuid><memory>8192</memory>" \
    "<os><type>hvm</type></os></domain>"
NODE = '<node><cpu><mhz>1000</mhz></cpu><memory>4000000</memory>{}</node>'
ROLES = """
[core]
uri=test:///etc/hvpatch/node.xml
[key vendor]
minisign={key}
[role admin]
principals=uid:0
verbs=*
domains=*
[role watchers]
principals=uid:{watcher}
verbs=view
domains=web-*
"""
# In group hvpatch, and nothing else.
WATCHER = 4711
AS_WATCHER = f'setpriv --reuid={WATCHER} --regid={WATCHER} --init-groups '
CURL = f'curl -sS --max-time 20 --unix-socket {SOCKET} '
UPLOAD = '''
import hvpatch
client = hvpatch.Client()
patch, new = client.upload('/root/fix.ko', signature='/root/fix.ko.minisig')
assert new and patch.signed_by == 'vendor', patch
assert [domain.name for domain in client.domains()] == ['db-1', 'web-1']
assert client.patches() == [patch]
try:
    client.upload('/root/other.ko')
except hvpatch.PermissionRefused:
    print(patch.sha256)
'''

stack = contextlib.ExitStack()


def guests():
    """Where the kernels of tests/vm are: HVPATCH_CACHE of scripts/guest."""
    return os.environ.get('HVPATCH_CACHE') or os.path.join(ROOT, 'build', 'guest')


@functools.cache
def machine():
    """One for all cases, with the packages installed."""
    module = os.path.join(BUILD, 'tests', 'daemon', 'make-module')
    if not os.path.exists(module):
        raise Skip(f'{module} is missing')
    chosen = [packages()[name] for name in INSTALLED]
    # There is no network in there.
    with contextlib.suppress(GuestError):
        prepare(KERNEL)
    made = stack.enter_context(Machine(shared=[folder for folder in (ROOT, guests())
                                               if os.path.isdir(folder)]))
    for path in chosen:
        made.copy(path, f'/root/{os.path.basename(path)}')
    made.copy(module, '/root/make-module')
    install(made)
    return made


def install(made):
    # Man pages are looked through for minutes else.
    made.run('dpkg --no-triggers --force-confold -i /root/*.deb', seconds=SLOW_SECONDS)


def show(unit, *names):
    said = machine().run(f'systemctl show {unit} -p {",".join(names)}').stdout
    return dict(line.split('=', 1) for line in said.splitlines())


def main_pid(unit):
    return int(show(unit, 'MainPID')['MainPID'])


def is_active(unit):
    return show(unit, 'ActiveState')['ActiveState'] == 'active'


def wait_for(condition, seconds=RESTART_SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, 'it did not come'
        time.sleep(0.1)
    return found


def ask(path, *options, user='', host='http://localhost'):
    """The status and document of an answer of the API's."""
    said = machine().run(f"{user}{CURL} -w '\\n%{{http_code}}' {' '.join(options)} {host}{path}",
                         check=False)
    assert said.returncode == 0, said
    body, status = said.stdout.rsplit('\n', 1)
    return int(status), json.loads(body)


def case_installed_it_runs_confined_and_has_recovered_first():
    machine()
    state = show(CORE, 'ActiveState', 'ExecStartPre', 'NoNewPrivileges', 'PrivateNetwork')
    assert state['ActiveState'] == 'active', machine().run(
        f'systemctl status --no-pager -l {CORE}', check=False).stdout
    assert 'status=0' in state['ExecStartPre'] and 'recover --all' in state['ExecStartPre'], state
    assert (state['NoNewPrivileges'], state['PrivateNetwork']) == ('yes', 'yes'), state
    assert is_active('hvpatch-apid.socket') and not is_active('hvpatch-apid-tls.socket')


def case_api_has_its_socket_and_its_group():
    said = machine().run(f'stat -c "%a %U %G %F" {SOCKET}; stat -c %a {FOLDER}').stdout
    assert said == '660 root hvpatch socket\n711\n', said


def case_nobody_may_do_anything_over_http_at_first():
    status, problem = ask('/v1/domains')
    assert status in (200, 403), problem
    assert problem == [] if status == 200 else problem['code'] == 'FORBIDDEN', problem
    status, problem = ask('/v1/patches', '-H', "'Content-Type: application/octet-stream'",
                          '--data-binary', '@/root/make-module')
    assert (status, problem['code']) == (403, 'FORBIDDEN'), problem
    assert machine().run(f'ps -o user= -p {main_pid(API)}').stdout.strip() == 'hvpatch-apid'
    # And to the network it is not there.
    assert not is_active('hvpatch-apid-tls.socket')


def case_configured_domains_are_listed():
    machine().run(f'useradd --uid {WATCHER} --groups hvpatch watcher')
    machine().run('cd /root && minisign -G -W -p key.pub -s key.sec && ./make-module fix.ko && '
                  './make-module other.ko kpatch && minisign -S -s key.sec -m fix.ko')
    machine().write('/etc/hvpatch/node.xml', NODE.format(''.join(
        DOMAIN.format(name, uuid) for name, uuid in UUIDS.items())))
    key = machine().read('/root/key.pub').splitlines()[1]
    machine().write(CONFIGURATION, machine().read(CONFIGURATION) + ROLES.format(
        key=key, watcher=WATCHER))
    machine().run(f'systemctl restart {CORE} {API}', seconds=SLOW_SECONDS)
    wait_for(lambda: len(ask('/v1/domains')[1]) == 2)
    domains = json.loads(machine().run('hvpatch -o json domains').stdout)['domains']
    assert {domain['name']: domain['uuid'] for domain in domains} == UUIDS, domains
    # No worker can look into what is no QEMU: why, it says.
    wait_for(lambda: ask(f'/v1/domains/{UUIDS["web-1"]}')[1]['error'])
    status = machine().run('hvpatch -d web-1 -o json status', check=False)
    assert status.returncode != 0 and json.loads(status.stdout)['code'] != 'INTERNAL', status


def case_who_is_in_the_group_sees_what_his_role_says():
    status, domains = ask('/v1/domains', user=AS_WATCHER)
    assert status == 200 and [domain['name'] for domain in domains] == ['web-1'], domains
    assert ask(f'/v1/domains/{UUIDS["db-1"]}', user=AS_WATCHER)[0] in (403, 404)
    said = machine().run(f'setpriv --reuid={WATCHER} --regid={WATCHER} --clear-groups {CURL} '
                         'http://localhost/v1/domains', check=False)
    assert said.returncode != 0, said
    said = machine().run(f'{AS_WATCHER} hvpatch -o json domains').stdout
    assert [domain['name'] for domain in json.loads(said)['domains']] == ['web-1'], said


def case_signed_patch_is_uploaded_with_python_and_found_with_curl():
    machine().write('/root/upload.py', UPLOAD)
    sha256 = machine().run('/usr/bin/python3 /root/upload.py').stdout.strip()
    status, patch = ask(f'/v1/patches/{sha256}')
    assert status == 200 and patch['signature'] == 'minisign', patch
    signature = "'Hvpatch-Signature: '$(base64 -w0 /root/fix.ko.minisig)"
    status, again = ask('/v1/patches', '-H', "'Content-Type: application/octet-stream'", '-H',
                        signature, '--data-binary', '@/root/fix.ko')
    assert status == 200 and again['sha256'] == sha256, again
    said = machine().run(f'stat -c "%a %U" /var/lib/hvpatch /var/lib/hvpatch/patches/{sha256}.ko')
    assert said.stdout == '700 root\n600 root\n', said


def case_command_line_does_not_start_the_daemon():
    machine().run(f'systemctl stop {CORE}')
    result = machine().run('hvpatch domains', check=False)
    assert result.returncode == 1 and result.stderr == 'hvpatch: hvpatchd does not run\n', result
    result = machine().run('hvpatch -d web status', check=False)
    assert result.returncode != 0, result
    # Nor does the API, which says so.
    status, problem = ask('/v1/domains')
    assert (status, problem['code']) == (503, 'UNAVAILABLE'), problem
    assert show(CORE, 'ActiveState')['ActiveState'] == 'inactive'
    machine().run(f'systemctl start {CORE}')


def case_linux_guest_is_patched_from_within_the_confinement():
    if not os.path.isdir(guests()):
        raise Skip(f'{guests()} is missing')
    text = machine().read(CONFIGURATION)
    machine().write(CONFIGURATION, text.replace('uri=test:///etc/hvpatch/node.xml',
                                                'unsigned=allow'))
    machine().run(f'systemctl restart {CORE}', seconds=SLOW_SECONDS)
    script = os.path.join(ROOT, 'tests', 'package', 'guest-in-service.py')
    said = machine().run(f'HOME=/root HVPATCH_CACHE={guests()} HVPATCH=/usr/bin/hvpatch '
                         f'/usr/bin/python3 {script} {KERNEL}', check=False, seconds=GUEST_SECONDS)
    print(''.join(f'# {line}\n' for line in said.stdout.splitlines()), end='')
    if said.stdout.startswith('skip: '):
        raise Skip(said.stdout[len('skip: '):].strip())
    assert said.returncode == 0, (said.stdout[-3000:], said.stderr[-3000:])


def case_upgrade_restarts_core_and_api_and_keeps_the_rest():
    before = main_pid(CORE), main_pid(API)
    patches = ask('/v1/patches')[1]
    machine().write(CONFIGURATION, machine().read(CONFIGURATION) + '# mine\n')
    install(machine())
    wait_for(lambda: is_active(CORE) and is_active(API))
    assert set(before).isdisjoint((main_pid(CORE), main_pid(API), 0))
    wait_for(lambda: ask('/v1/patches')[1] == patches)
    assert len(patches) >= 1 and machine().read(CONFIGURATION).endswith('# mine\n')


def case_purged_nothing_runs_and_nothing_is_left():
    machine().run(f'dpkg --no-triggers -P {" ".join(INSTALLED)}', seconds=SLOW_SECONDS)
    # What is in the folder: other tests make it on this host, empty, and that shows in here.
    said = machine().run(f'ls -d {CONFIGURATION} /var/lib/hvpatch/* {SOCKET} '
                         '/usr/libexec/hvpatch /usr/lib/python3/dist-packages/hvpatch '
                         '/etc/systemd/system/*/hvpatch*', check=False)
    assert not said.stdout, said
    said = machine().run('ps -eo comm= | grep ^hvpatch', check=False)
    assert not said.stdout, said
    said = machine().run('systemctl list-units --all --no-legend "*hvpatch*"').stdout
    assert not [line for line in said.splitlines() if ' active ' in line], said


if __name__ == '__main__':
    # Whoever ends the test ends the machine, and its cgroup goes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with stack:
        sys.exit(run_cases(globals()))
