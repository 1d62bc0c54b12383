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
import re
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

POLKIT = 'polkit.service'
RULES = '/etc/polkit-1/rules.d/60-hvpatch.rules'
RULE = """polkit.addRule(function(action, subject) {{
    if ({}) return polkit.Result.YES;
}});
"""
READS = RULE.format('action.id === "org.hvpatch1.view" && subject.user === "nightshift"')
# Without a role: nightshift, in group operators, and who is in none.
OPERATOR, STRANGER = 4712, 4713
# What is asked of the daemon as one of them, and answered where nothing lets him.
REQUESTS = {'recover': {}, 'check': {'patch': '0' * 64}, 'apply': {'patch': '0' * 64},
            'replace': {'patch': '0' * 64}, 'revert': {'name': 'fix'}}
NOTHING = {'view': 'FORBIDDEN', 'metrics': 'FORBIDDEN', 'delete': 'FORBIDDEN',
           **{f'{verb} {domain}': 'NOT_FOUND' for verb in REQUESTS for domain in UUIDS}}
# polkit has read a rule that is gone, and the daemon has asked again; callers on D-Bus give up.
FORGET_SECONDS, CALL_SECONDS = 5, 25
LISTEN = """
import gi
gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib
NAME, PATH, INTERFACE = 'org.hvpatch1', '/org/hvpatch1', 'org.hvpatch1.Manager'
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
bus.signal_subscribe(NAME, INTERFACE, 'Event', PATH, None, Gio.DBusSignalFlags.NONE,
                     lambda *call: print(call[5].unpack()[0], flush=True))
print(bus.call_sync(NAME, PATH, INTERFACE, 'GetEvents', GLib.Variant('(stu)', ('', 0, 1)), None,
                    Gio.DBusCallFlags.NONE, -1).unpack()[2], flush=True)
GLib.MainLoop().run()
"""

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


@functools.cache
def need_polkit():
    """And whom it is asked about."""
    if machine().run(f'systemctl cat {POLKIT}', check=False).returncode != 0:
        raise Skip('polkitd is missing')
    machine().run(f'groupadd operators && useradd --uid {STRANGER} stranger && '
                  f'useradd --uid {OPERATOR} --groups operators nightshift')
    machine().run('cp /root/fix.ko /root/fix.ko.minisig /var/tmp && chmod 644 /var/tmp/fix.ko*')


def user(number):
    return f'setpriv --reuid={number} --regid={number} --init-groups '


def over_bus(number, method, *arguments):
    """The code of the error that a call of that user's ends with; None: it does what it is to."""
    said = machine().run(
        f'{user(number)} dbus-send --system --print-reply --dest=org.hvpatch1 /org/hvpatch1 '
        f'org.hvpatch1.Manager.{method} string: {" ".join(arguments)}', check=False)
    found = re.match(r'Error org\.hvpatch1\.Error\.(\w+): ', said.stderr)
    assert found or said.returncode == 0, said
    return found and found[1]


def start(number, domain, verb):
    request = json.dumps({'verb': verb} | REQUESTS[verb])
    return over_bus(number, 'StartOperation', f'string:{UUIDS[domain]}', f"string:'{request}'",
                    'string:')


def answers(number):
    """As NOTHING is."""
    return {'view': over_bus(number, 'ListDomains'), 'metrics': over_bus(number, 'GetMetrics'),
            'delete': over_bus(number, 'DeletePatch', f'string:{"0" * 64}'),
            **{f'{verb} {domain}': start(number, domain, verb)
               for verb in REQUESTS for domain in UUIDS}}


def refused(number, arguments, why):
    """hvpatch refuses that user, and says why."""
    said = machine().run(f'{user(number)} hvpatch {arguments}', check=False)
    assert (said.returncode, said.stderr) == (5, f'hvpatch: uid:{number} may not {why}\n'), said


@contextlib.contextmanager
def rules(text, *let):
    """While they are in force, which is once they let: a number, a method, arguments."""
    need_polkit()
    machine().write(RULES, text)
    try:
        wait_for(lambda: over_bus(*let) is None)
        yield
    finally:
        machine().run(f'rm {RULES}')


def operations():
    """That were asked for by OPERATOR."""
    said = json.loads(machine().run('hvpatch -o json operations').stdout)['operations']
    return [one for one in said if one['principal'] == f'uid:{OPERATOR}']


def case_real_polkit_refuses_whom_no_rule_lets():
    need_polkit()
    assert answers(OPERATOR) == NOTHING, answers(OPERATOR)
    refused(OPERATOR, 'domains', 'view this')
    refused(OPERATOR, '-d web-1 apply /var/tmp/fix.ko', 'view this')
    # It was polkit that said so.
    assert machine().run(f'ps -o user= -p {main_pid(POLKIT)}').stdout.strip() == 'polkitd'


def case_rule_for_a_user_lets_him_read_and_do_nothing_else():
    with rules(READS, OPERATOR, 'ListDomains'):
        # What he may see is forbidden to him; it is there.
        assert answers(OPERATOR) == dict.fromkeys(NOTHING, 'FORBIDDEN') | {'view': None}
        said = machine().run(f'{user(OPERATOR)} hvpatch -o json domains').stdout
        assert {one['name'] for one in json.loads(said)['domains']} == set(UUIDS), said
        refused(OPERATOR, '-d web-1 apply /var/tmp/fix.ko', 'upload this')
        refused(OPERATOR, '-d web-1 revert fix', 'revert this')
        refused(OPERATOR, '-d web-1 recover', 'recover this')
        assert answers(STRANGER) == NOTHING, answers(STRANGER)
    assert not operations(), operations()


def case_rule_for_a_group_lets_change_one_domain_and_read_nothing():
    rule = RULE.format('action.id === "org.hvpatch1.recover" && subject.isInGroup("operators") && '
                       'action.lookup("domain") === "web-1"')
    with rules(rule, OPERATOR, 'StartOperation', f'string:{UUIDS["web-1"]}',
               """'string:{"verb":"recover"}'""", 'string:'):
        wait_for(lambda: all(one['ended_at'] for one in operations()))
        assert answers(OPERATOR) == NOTHING | {'recover web-1': None}
        assert answers(STRANGER) == NOTHING, answers(STRANGER)
    done = {(one['domain_name'], one['verb']) for one in operations()}
    assert done == {('web-1', 'recover')}, operations()


def heard():
    """The numbers of the events that reached who listens; first that of the one before."""
    return [int(line) for line in machine().read('/run/heard').split()]


def make_event():
    """Returns its number, or that of one behind it."""
    machine().run('hvpatch -d db-1 recover', check=False)
    return json.loads(machine().run('hvpatch -o json events').stdout.splitlines()[-1])['seq']


def case_rule_that_is_gone_lets_nobody_nor_who_listens():
    with rules(READS, OPERATOR, 'ListDomains'):
        machine().write('/var/tmp/listen.py', LISTEN)
        machine().write('/run/heard', '')
        machine().run('systemd-run --quiet --unit=ear --uid=nightshift -p StandardOutput='
                      'file:/run/heard /usr/bin/python3 /var/tmp/listen.py')
        wait_for(lambda: is_active('ear.service') and heard())
        newest = make_event()
        wait_for(lambda: heard()[-1] >= newest)
        # It is another rule now, which lets the same: who listens still hears.
        machine().write(RULES, f'// anew\n{READS}')
        time.sleep(FORGET_SECONDS)
        newest = make_event()
        wait_for(lambda: heard()[-1] >= newest)
    wait_for(lambda: over_bus(OPERATOR, 'ListDomains') == 'FORBIDDEN', seconds=FORGET_SECONDS)
    assert answers(OPERATOR) == NOTHING, answers(OPERATOR)
    refused(OPERATOR, 'domains', 'view this')
    time.sleep(FORGET_SECONDS)
    newest = make_event()
    time.sleep(1)
    assert is_active('ear.service') and heard()[-1] < newest, (heard(), newest)
    machine().run('systemctl stop ear')


def case_polkit_rule_of_the_documentation_does_what_it_says():
    with open(os.path.join(ROOT, 'docs', 'daemon.md')) as stream:
        rule = re.search(f'```\n(// {RULES}.*?)```', stream.read(), re.DOTALL)[1]
    before = len(operations())
    with rules(rule, OPERATOR, 'ListDomains'):
        # What these domains are cannot be patched: it is tried, which is what one may.
        for command in ('check /var/tmp/fix.ko', 'apply /var/tmp/fix.ko', 'revert fix'):
            said = machine().run(f'{user(OPERATOR)} hvpatch -d web-1 {command}', check=False)
            assert said.returncode not in (0, 5), said
            refused(OPERATOR, f'-d db-1 {command}', f'{command.split()[0]} this')
        refused(OPERATOR, '-d web-1 recover', 'recover this')
        assert answers(STRANGER) == NOTHING, answers(STRANGER)
    assert [(one['domain_name'], one['verb']) for one in operations()[:-before]] == [
        ('web-1', 'revert'), ('web-1', 'apply'), ('web-1', 'check')], operations()


@contextlib.contextmanager
def polkit(before, after):
    """BEFORE and AFTER: what is run in the machine."""
    machine().run(before)
    try:
        yield
    finally:
        machine().run(after)


def case_polkit_that_does_not_run_is_a_no_and_said_to_be():
    core = main_pid(CORE)
    with rules(READS, OPERATOR, 'ListDomains'):
        # D-Bus starts one that is merely stopped.
        machine().run(f'systemctl stop {POLKIT}')
        assert over_bus(OPERATOR, 'ListDomains') is None and is_active(POLKIT)
        with polkit(f'systemctl mask --now {POLKIT}', f'systemctl unmask {POLKIT}'):
            begin = time.monotonic()
            refused(OPERATOR, 'domains', 'view this: polkit does not answer')
            refused(OPERATOR, '-d web-1 apply /var/tmp/fix.ko',
                    'view this: polkit does not answer')
            assert answers(OPERATOR) == NOTHING, answers(OPERATOR)
            assert time.monotonic() - begin < CALL_SECONDS
            said = machine().run(f'journalctl --no-pager -o cat -u {CORE}').stdout
            assert said.count('polkit does not answer') == 1 and 'masked' in said, said
            # Who needs no polkit is served.
            machine().run('hvpatch domains')
            assert json.loads(machine().run(f'{AS_WATCHER} hvpatch -o json domains').stdout)
        wait_for(lambda: over_bus(OPERATOR, 'ListDomains') is None)
    assert main_pid(CORE) == core


def case_polkit_that_hangs_is_a_no_before_callers_give_up():
    with rules(READS, OPERATOR, 'ListDomains'):
        with polkit(f'kill -STOP {main_pid(POLKIT)}', f'systemctl kill -s CONT {POLKIT}'):
            begin = time.monotonic()
            refused(OPERATOR, 'domains', 'view this: polkit does not answer')
            # This one is asked about twice where polkit answers.
            assert start(OPERATOR, 'web-1', 'recover') == 'NOT_FOUND'
            assert time.monotonic() - begin < 2 * CALL_SECONDS
        wait_for(lambda: over_bus(OPERATOR, 'ListDomains') is None)


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
