#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian packages of scripts/build-debs: built, looked at, installed, used, upgraded, purged.

Installed into a copy of this host that lies in memory (overlayfs in a mount namespace, systemctl a
script that writes down what it is asked): needs root, and the packages that ours depend on.
HVPATCH_PACKAGE_LONG=1: built a second time elsewhere, for the same bytes.
"""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.append(os.path.join(ROOT, 'tests', 'unit', 'guest-agent'))
from cases import Skip, run_cases  # pylint: disable=wrong-import-position
from debs import BUILD_SECONDS, need, packages  # pylint: disable=wrong-import-position

PATIENCE_SECONDS = 300
ALWAYS = {'hvpatch', 'hvpatchd', 'hvpatch-qemu-plugin', 'python3-hvpatch'}
# What lintian says and is meant: the maintainer is whoever builds (DEBEMAIL); the agent is static
# for guests of any release, has guest-agent.md, and udev starts its service.
MEANT = re.compile('E: .*: bogus-mail-host|'
                   '[EW]: hvpatch-agent: (no-manual-page|maintainer-script-calls-systemctl|'
                   'statically-linked-binary|no-changelog) ')
# Made and changed by dpkg and its triggers, and by sysusers: accounts stay, as Debian has it.
NOT_OURS = ('/var/lib/dpkg', '/var/log', '/var/cache', '/etc/passwd', '/etc/group', '/etc/shadow',
            '/etc/gshadow', '/etc/ld.so.cache', '/var/lib/systemd', '/etc/.pwd.lock',
            '/etc/subuid', '/etc/subgid', '/root', '/etc/mtab')
COPY = r'''
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind /dev "$1/root/dev"
mount -t proc none "$1/root/proc"
mount -t tmpfs none "$1/root/run"
mount -t tmpfs none "$1/root/tmp"
mkdir "$1/root/tmp/debs"
cp "$2"/*.deb "$1/root/tmp/debs"
rm -f "$1/root/usr/sbin/policy-rc.d"
exec chroot "$1/root" /bin/sh -c "$3"
'''
PREPARE = r'''
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
cd /tmp
mkdir -p /run/systemd/system
rm -f /usr/bin/systemctl
# Else all man pages of the host are looked through, each time.
rm -f /var/lib/man-db/auto-update
cat > /usr/bin/systemctl <<'END'
#!/bin/sh
echo "systemctl $*" >> /tmp/asked
case "$*" in *is-enabled*) echo enabled ;; esac
exit 0
END
chmod 755 /usr/bin/systemctl
: > asked
'''


def run(*command, seconds=PATIENCE_SECONDS, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds,
                            **options)
    assert result.returncode == 0, (command[0], result.returncode, result.stdout[-3000:],
                                    result.stderr[-3000:])
    return result.stdout


def field(path, name):
    return run('dpkg-deb', '-f', path, name).strip()


def in_copy(script):
    """Runs SCRIPT in a copy of this host with the packages in /tmp/debs; what it prints."""
    need('unshare', 'chroot', 'dpkg')
    if os.geteuid() != 0:
        raise Skip('to be root is needed')
    folder = os.path.dirname(next(iter(packages().values())))
    place = tempfile.mkdtemp(prefix='hvp-')
    try:
        check_overlay(place)
        return run('unshare', '--mount', '--propagation', 'private', 'sh', '-c', COPY, 'sh', place,
                   folder, PREPARE + script)
    finally:
        os.rmdir(place)


def check_overlay(place):
    trial = COPY[:COPY.index('mount --bind')]
    if subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', trial, 'sh',
                       place], capture_output=True, check=False).returncode != 0:
        raise Skip('no overlayfs in a mount namespace here')
    for path in packages().values():
        for word in re.split(r',\s*', field(path, 'Depends')):
            names = [name.split()[0].split(':')[0] for name in word.split('|') if name.strip()]
            if names and not any(is_installed(name) or name in packages() for name in names):
                raise Skip(f'{names[0]} is not installed here')


def is_installed(name):
    result = subprocess.run(['dpkg-query', '-W', '-f', '${db:Status-Status} ', name],
                            capture_output=True, text=True, check=False)
    # The interpreter is in the copy as it is here.
    return 'installed' in result.stdout.split() or name == 'python3'


def parts(output):
    """What stands behind each line "== NAME"."""
    found = re.split(r'^== (.*)\n', output, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2]))


def case_what_there_is_is_built():
    made = packages()
    assert ALWAYS <= made.keys(), made
    versions = {field(path, 'Version') for path in made.values()}
    assert len(versions) == 1, versions


def case_same_bytes_wherever_the_tree_lies():
    if os.environ.get('HVPATCH_PACKAGE_LONG') != '1':
        raise Skip('HVPATCH_PACKAGE_LONG=1 is needed')
    with tempfile.TemporaryDirectory(prefix='hvp-longer-name-') as folder:
        tree = os.path.join(folder, 'tree')
        out = os.path.join(folder, 'out')
        os.makedirs(out)
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns('build'))
        run(os.path.join(tree, 'scripts', 'build-debs'), out, seconds=BUILD_SECONDS,
            env={**os.environ, 'TMPDIR': folder})
        for path in packages().values():
            again = os.path.join(out, os.path.basename(path))
            assert filecmp.cmp(path, again, shallow=False), again


def case_lintian_has_nothing_new_to_say():
    need('lintian')
    said = subprocess.run(['lintian', '--allow-root', '--no-cfg', '--fail-on', 'none',
                           *packages().values()], capture_output=True, text=True, check=False)
    tags = {line for line in said.stdout.splitlines()
            if line.startswith(('E:', 'W:')) and not MEANT.match(line)}
    assert not tags, tags


def case_files_are_roots_and_tell_nothing_of_the_build():
    for name, path in packages().items():
        lines = run('dpkg-deb', '-c', path).splitlines()
        assert {line.split()[1] for line in lines} == {'root/root'}, name
        modes = {line.split()[0] for line in lines}
        assert modes <= {'drwxr-xr-x', '-rwxr-xr-x', '-rw-r--r--', 'lrwxrwxrwx'}, (name, modes)
        with tempfile.TemporaryDirectory() as folder:
            run('dpkg-deb', '-x', path, folder)
            found = subprocess.run(['grep', '-rlE', 'hvp-debs-|' + re.escape(ROOT), folder],
                                   capture_output=True, text=True, check=False).stdout
            assert not found, found


def case_programs_are_hardened():
    need('readelf')
    with tempfile.TemporaryDirectory() as folder:
        for name in ('hvpatch', 'hvpatchd'):
            run('dpkg-deb', '-x', packages()[name], folder)
        for name in ('usr/bin/hvpatch', 'usr/sbin/hvpatchd', 'usr/libexec/hvpatch/hvpatch-keeper',
                     'usr/libexec/hvpatch/hvpatch-worker', 'usr/libexec/hvpatch/hvpatch-apid'):
            said = run('readelf', '-hldW', os.path.join(folder, name))
            for sign in ('DYN (', 'GNU_RELRO', 'BIND_NOW'):
                assert sign in said, (name, sign)
            assert '.debug_info' not in run('readelf', '-SW', os.path.join(folder, name))


def case_only_the_configuration_is_the_users():
    with tempfile.TemporaryDirectory() as folder:
        run('dpkg-deb', '-e', packages()['hvpatchd'], folder)
        with open(os.path.join(folder, 'conffiles')) as stream:
            assert stream.read() == '/etc/hvpatch/hvpatchd.conf\n'


LIST_FILES = "find / -xdev \\( -path /tmp -o -path /proc -o -path /dev \\) -prune -o -print | sort"
USE = r'''
echo '== version'; hvpatch --version
echo '== recover'; hvpatch recover --all
echo '== daemon'; hvpatch domains 2>&1 || echo "exit $?"
echo '== commands'; hvpatch complete
echo '== libraries'; ldd /usr/bin/hvpatch /usr/libexec/hvpatch/* | grep 'not found' || true
echo '== pages'; ls /usr/share/man/man1/hvpatch.1.gz && gzip -t /usr/share/man/man1/hvpatch.1.gz
'''


def case_installed_used_and_purged():
    said = parts(in_copy(f'''
{LIST_FILES} > before
dpkg -i debs/*.deb > installed
{USE}
echo '== audit'; dpkg --audit
echo '== units'; systemd-analyze verify --man=no hvpatchd.service hvpatch-apid.service \
    hvpatch-apid-tls.socket 2>&1 | grep hvpatch || true
echo '== accounts'; getent passwd hvpatch-apid hvpatch-worker | cut -d: -f1,7
getent group hvpatch | cut -d: -f1
echo '== state'; stat -c '%a %U %n' /var/lib/hvpatch /run/hvpatch
echo '== python'; /usr/bin/python3 -c 'import hvpatch; print(hvpatch.__file__)'
echo '== daemons'; hvpatchd --version; /usr/libexec/hvpatch/hvpatch-apid --version
/usr/libexec/hvpatch/hvpatch-worker 2>&1 || true
echo '== removed'
dpkg -P $(dpkg-query -W -f '${{Package}} ' 'hvpatch*' python3-hvpatch 2>/dev/null) > removed
{LIST_FILES} > after
diff before after || true
'''))
    assert said['version'].startswith('hvpatch '), said
    assert said['recover'] == 'nothing to recover\n', said
    assert said['daemon'] == 'hvpatch: hvpatchd does not run\nexit 1\n', said
    assert 'operations' in said['commands'].split() and not said['libraries'].strip(), said
    assert not said['audit'].strip(), said
    assert not said['units'].strip(), said['units']
    assert said['accounts'].split() == ['hvpatch-apid:/usr/sbin/nologin',
                                        'hvpatch-worker:/usr/sbin/nologin', 'hvpatch'], said
    assert said['state'].split('\n')[:2] == ['700 root /var/lib/hvpatch',
                                             '711 root /run/hvpatch'], said
    assert said['python'].startswith('/usr/lib/python3/'), said
    assert [line.split()[0] for line in said['daemons'].splitlines()] == [
        'hvpatchd', 'hvpatch-apid', 'hvpatch-worker'], said['daemons']
    # What others do to this host meanwhile shows in its copy.
    left = [line for line in said['removed'].splitlines() if line.startswith('> ')
            and not line[2:].startswith(NOT_OURS) and not os.path.exists(line[2:])]
    assert not left, left


def case_upgrade_restarts_the_core_and_no_keeper():
    said = parts(in_copy('''
dpkg -i debs/hvpatch_*.deb debs/hvpatchd_*.deb > log
echo '== first'; cat asked
echo '# mine' >> /etc/hvpatch/hvpatchd.conf
echo journal > /run/hvpatch/1-1.journal
: > asked
dpkg --force-confdef --force-confold -i debs/hvpatch_*.deb debs/hvpatchd_*.deb > log
echo '== upgrade'; cat asked
echo '== configuration'; tail -n 1 /etc/hvpatch/hvpatchd.conf
: > asked
dpkg -r hvpatchd > log
echo '== remove'; cat asked
echo '== kept'; ls -d /etc/hvpatch/hvpatchd.conf /var/lib/hvpatch /run/hvpatch/1-1.journal
dpkg -P hvpatchd > log
echo '== purged'; ls -d /etc/hvpatch /var/lib/hvpatch /run/hvpatch/1-1.journal 2>/dev/null || true
'''))
    assert re.search(r'start.* hvpatchd\.service', said['first']), said['first']
    assert re.search(r'try-restart.* hvpatchd\.service', said['upgrade']), said['upgrade']
    assert not re.search(r'keeper|\.scope|\bstop\b', said['upgrade']), said['upgrade']
    assert said['configuration'] == '# mine\n'
    assert re.search(r'stop.* hvpatchd\.service', said['remove']), said['remove']
    assert len(said['kept'].split()) == 3, said['kept']
    # What a guest may still need is nobody's to delete.
    assert said['purged'].split() == ['/run/hvpatch/1-1.journal'], said['purged']


if __name__ == '__main__':
    sys.exit(run_cases(globals()))
