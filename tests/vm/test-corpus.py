#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Real livepatch modules made by kpatch-build, on the stock kernel that they were made for.

They are not part of the source: $HVPATCH_CORPUS names the folder that has them. Cases whose module
is missing are skipped. Each .ko there is of 6.1.0-50-cloud-amd64, see its README.
"""

import contextlib
import os
import re

from tap import PATCHING_ITSELF, Skip, Suite

suite = Suite('6.1.0-50-cloud-amd64', **PATCHING_ITSELF)

DONE, NOT_APPLICABLE, REFUSED = 0, 3, 5

# Modules that patch vmlinux only, and what they replace there.
VMLINUX = {
    'timens-offset-range': {'proc_timens_set_offset'},
    'prctl-auxv-copy': {'prctl_set_auxv'},
    'vfs-pipe-mount': {'pipe_fasync', 'd_set_mounted'},
    'mm-anon-vma': {'__anon_vma_prepare', 'migrate_to_node'},
    'cpuhp-rollback': {'cpuhp_invoke_callback'},
    'fcntl-thaw': {'do_fcntl', 'do_thaw_all_callback'},
    'timens-callbacks': {'proc_timens_set_offset'},
    'cumulative-net': {'arp_ioctl'},
}
# Modules that patch functions of loadable modules, and which.
OBJECTS = {
    'loop-block-size': ('loop',),
    'tun-headroom': ('tun',),
    'nf-irc-u32': ('nf_conntrack_irc', 'xt_u32'),
}
# What hvp_effect says without and with a fix.
EFFECTS = {
    'timens-offset-range': ('timens', 'accepted', 'EINVAL'),
    'timens-callbacks': ('timens', 'accepted', 'EINVAL'),
    'prctl-auxv-copy': ('auxv', None, '1'),
}
CALLBACK_LINES = (r'.*(pre|post)[_-]?(un)?patch.*',)


def path_of(name):
    folder = os.environ.get('HVPATCH_CORPUS')
    if not folder:
        raise Skip('HVPATCH_CORPUS is not set')
    path = os.path.join(folder, f'livepatch-{name}.ko')
    if not os.path.exists(path):
        raise Skip(f'{path} is missing')
    return path


def module_name(name):
    return 'livepatch_' + name.replace('-', '_')


def assert_effect(guest, name, fixed):
    if name not in EFFECTS:
        return
    what, without, with_fix = EFFECTS[name]
    said = guest.check(f'hvp_effect {what}')
    if fixed or without is not None:
        assert said == (with_fix if fixed else without), said
    else:
        assert said != with_fix, said


def smoke(guest):
    """What the patched functions are for: forks, mappings, pipes, sockets, locks."""
    status, output = guest.run('hvp_load 2 1; [ $? = 142 ]')
    assert status == 0, output
    guest.check('ip addr add 10.9.9.1/24 dev lo; ping -c 1 10.9.9.1 >/dev/null; arp -n >/dev/null; '
                'ip addr del 10.9.9.1/24 dev lo')
    guest.check('(echo hello | nc -l -p 4444 >/dev/null & sleep 0.3; nc 127.0.0.1 4444 </dev/null)')
    guest.check('mkdir -p /tmp/mount; mount -t tmpfs tmpfs /tmp/mount; umount /tmp/mount; '
                'rmdir /tmp/mount; echo x > /tmp/x; flock /tmp/x true; rm /tmp/x')


@contextlib.contextmanager
def nothing_left(guest, functions=()):
    before = guest.loaded(), [guest.entry(function) for function in functions]
    yield
    after = guest.loaded(), [guest.entry(function) for function in functions]
    assert after == before, (before, after)


def checked(guest, path, *options):
    result = guest.hvpatch('check', path, *options)
    assert result.json and result.json['version'] == 1, result
    assert result.json['format'] == 'kpatch', result
    return result


def apply_and_revert(guest, name, path, functions, *options):
    assert_effect(guest, name, False)
    with nothing_left(guest, functions):
        result = guest.hvpatch('apply', path, *options)
        assert result.status == DONE and result.json['result'] == 'applied', result
        assert result.json['patch'] == module_name(name), result
        assert functions <= {item['name'] for item in result.json['functions']}, result
        assert {item['object'] for item in result.json['functions']} == {'vmlinux'}, result
        assert_effect(guest, name, True)
        smoke(guest)
        status = guest.hvpatch('status')
        patch, = status.json['patches']
        assert patch['name'] == module_name(name) and patch['verified'] is True, status
        reverted = guest.hvpatch('revert', module_name(name))
        assert reverted.status == DONE, reverted
    assert_effect(guest, name, False)
    smoke(guest)
    return result


def vmlinux_case(name, functions, allow=()):
    @suite.case(f'{name}-APPLIED-SEEN-REVERTED', allow=allow)
    def _(guest):
        path = path_of(name)
        result = checked(guest, path)
        assert result.status == DONE and result.json['applicable'] is True, result
        apply_and_revert(guest, name, path, functions)


for fix, names in VMLINUX.items():
    vmlinux_case(fix, names, CALLBACK_LINES if fix == 'timens-callbacks' else ())


@suite.case('timens-callbacks-ALL-RUN', allow=CALLBACK_LINES)
def _(guest):
    """It has three: pre-patch, post-patch and post-unpatch."""
    path = path_of('timens-callbacks')
    result = guest.hvpatch('apply', path)
    assert result.status == DONE, result
    applied = [line for line in guest.new_dmesg() if re.fullmatch(CALLBACK_LINES[0], line)]
    result = guest.hvpatch('revert', module_name('timens-callbacks'))
    assert result.status == DONE, result
    lines = [line for line in guest.new_dmesg() if re.fullmatch(CALLBACK_LINES[0], line)]
    assert (len(applied), len(lines)) == (2, 3), lines


@suite.case('cumulative-net-WARNS-of-old-cold')
def _(guest):
    """Its jump into arp_ioctl.cold never comes back: a word of warning, no refusal."""
    result = checked(guest, path_of('cumulative-net'))
    assert result.status == DONE and result.json['applicable'] is True, result
    assert len(result.json['functions']) == 11, result
    item, = [item for item in result.json['items'] if item['item'] == 'old-cold']
    assert item['ok'] is True and 'arp_ioctl.cold' in item['why'], item


@suite.case('fork-dup-mmap-REFUSED-unless-accepted')
def _(guest):
    """Its new dup_mmap jumps into the old .cold part, and from there back into the old parent."""
    path = path_of('fork-dup-mmap')
    with nothing_left(guest, ('dup_mmap',)):
        result = checked(guest, path)
        assert result.status in (NOT_APPLICABLE, REFUSED), result
        assert result.json['applicable'] is False, result
        failed = [item for item in result.json['items'] if not item['ok']]
        assert [item['item'] for item in failed] == ['old-cold'], failed
        assert 'dup_mmap.cold' in failed[0]['why'], failed
        result = guest.hvpatch('apply', path)
        assert result.status in (NOT_APPLICABLE, REFUSED), result
        assert 'dup_mmap.cold' in result.stdout + result.stderr, result
    apply_and_revert(guest, 'fork-dup-mmap', path, {'dup_mmap'}, '--accept', 'old-cold')


def assert_object_effect(guest, name, fixed):
    if name == 'loop-block-size':
        said = guest.check('hvp_effect loop')
        assert said == ('EBUSY' if fixed else 'accepted'), said


def assert_objects(result, objects, loaded):
    """What is loaded is switched; the rest is left to come."""
    named = {item['object'] for item in result.json['functions']}
    assert named == (set(objects) if loaded else set()), (named, result)


def assert_covered(guest, name, objects, how):
    status = guest.hvpatch('status')
    patch, = status.json['patches']
    assert patch['name'] == module_name(name) and patch['verified'] is True, status
    covered = {item['object']: item['covered'] for item in patch['objects']}
    assert covered == {module: how for module in objects}, (covered, status)


def object_case(name, objects, accepted=()):
    options = [word for item in accepted for word in ('--accept', item)]
    modprobe = f'modprobe -a {" ".join(objects)}'
    allow = (r'(loop|tun|xt_u32|nf_conntrack_irc|nf_conntrack|livepatch|ip_tables): .*',
             r'loop\d+: .*', 'Universal TUN.*', r'u32 .*')

    @suite.case(f'{name}-module-loaded-before-SWITCHED-SEEN-REVERTED', allow=allow)
    def _(guest):
        path = path_of(name)
        guest.check(modprobe)
        assert_object_effect(guest, name, False)
        with nothing_left(guest):
            result = guest.hvpatch('apply', path, *options)
            assert result.status == DONE and result.json['result'] == 'applied', result
            assert_objects(result, objects, True)
            assert_covered(guest, name, objects, 'switch')
            assert_object_effect(guest, name, True)
            reverted = guest.hvpatch('revert', module_name(name))
            assert reverted.status == DONE, reverted
        assert_object_effect(guest, name, False)
        guest.check(f'modprobe -r {" ".join(objects)}')

    @suite.case(f'{name}-module-comes-later-SEEN-REVERTED', allow=allow)
    def _(guest):
        path = path_of(name)
        with nothing_left(guest):
            result = guest.hvpatch('apply', path, *options)
            assert result.status == DONE and result.json['result'] == 'applied', result
            assert_objects(result, objects, False)
            assert_covered(guest, name, objects, 'waiting')
            guest.check(modprobe)
            assert_covered(guest, name, objects, 'core')
            assert_object_effect(guest, name, True)
            reverted = guest.hvpatch('revert', module_name(name))
            assert reverted.status == DONE, reverted
            assert_object_effect(guest, name, False)
            guest.check(f'modprobe -r {" ".join(objects)}')


for fix, modules in OBJECTS.items():
    object_case(fix, modules, ('old-cold',) if fix == 'nf-irc-u32' else ())


@suite.case('nf-irc-u32-REFUSED-unless-accepted')
def _(guest):
    """help.cold leads back into the old help(); while its module is away nobody can tell."""
    path = path_of('nf-irc-u32')
    for load in (False, True):
        if load:
            guest.check('modprobe -a nf_conntrack_irc xt_u32')
        with nothing_left(guest):
            for command in ('check', 'apply'):
                result = guest.hvpatch(command, path)
                assert result.status in (NOT_APPLICABLE, REFUSED), result
                assert 'help.cold' in result.stdout + result.stderr, result
    guest.check('modprobe -r nf_conntrack_irc xt_u32')


@suite.case('cumulative-net-REPLACES-all', allow=CALLBACK_LINES)
def _(guest):
    """With replace as its makers chose it: what was in force before goes in the same pause."""
    with nothing_left(guest):
        for name in ('mm-anon-vma', 'prctl-auxv-copy', 'cumulative-net'):
            result = guest.hvpatch('apply', path_of(name))
            assert result.status == DONE and result.json['result'] == 'applied', result
            patch, = guest.hvpatch('status').json['patches']
            assert patch['name'] == module_name(name) and patch['verified'] is True, patch
        assert_effect(guest, 'prctl-auxv-copy', False)
        smoke(guest)
        result = guest.hvpatch('revert', module_name('cumulative-net'))
        assert result.status == DONE, result


@suite.case('on-another-kernel-REFUSED', kernels=('6.1',))
def _(guest):
    with nothing_left(guest, ('prctl_set_auxv',)):
        for command in ('check', 'apply'):
            result = guest.hvpatch(command, path_of('prctl-auxv-copy'))
            assert result.status == NOT_APPLICABLE, result
            assert 'vermagic' in result.stdout + result.stderr, result


if __name__ == '__main__':
    suite.main()
