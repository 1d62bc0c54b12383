# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages of this tree, built once for all tests that want them.

They lie in the build folder by the hash of what they are made of, so that a tree that has not
changed is not built again. $HVPATCH_PACKAGES: a folder with packages that are built already.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess

from cases import Skip

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SCRIPT = os.path.join(ROOT, 'scripts', 'build-debs')
BUILD = os.environ.get('HVPATCH_BUILD') or os.path.join(ROOT, 'build')
BUILD_SECONDS = 1500
# What packages are made of, and how.
SOURCES = ('hv-patcher', 'guest-agent', 'qemu-plugin', 'python', 'systemd', 'packaging', 'docs',
           'scripts/build-debs', 'scripts/build-agent-deb', 'README.md', 'meson.build', 'tests')


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool, path=os.environ['PATH'] +
                                                          ':/usr/sbin:/sbin')]
    if missing:
        raise Skip(f'{", ".join(missing)} missing')


def files_of(path):
    if os.path.isfile(path):
        return [path]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path)
                  for name in names if '__pycache__' not in folder)


def hash_of_tree():
    found = hashlib.sha256()
    for source in SOURCES:
        for path in files_of(os.path.join(ROOT, source)):
            # Tests are built by nobody: what there is of them is what meson reads.
            if source == 'tests' and not path.endswith('meson.build'):
                continue
            with open(path, 'rb') as stream:
                digest = hashlib.sha256(stream.read()).hexdigest()
            found.update(f'{os.path.relpath(path, ROOT)} {digest}\n'.encode())
    return found.hexdigest()[:16]


def built(folder):
    """Of this tree in FOLDER; other trees' are gone then."""
    place = os.path.join(folder, hash_of_tree())
    if not os.path.isdir(place):
        for name in os.listdir(folder):
            if name != 'lock':
                shutil.rmtree(os.path.join(folder, name))
        trial = os.path.join(folder, 'trial')
        os.mkdir(trial)
        result = subprocess.run([SCRIPT, trial], capture_output=True, text=True,
                                check=False, timeout=BUILD_SECONDS)
        assert result.returncode == 0, (result.stdout[-3000:], result.stderr[-3000:])
        os.rename(trial, place)
    return place


@functools.cache
def packages():
    """{name: path}."""
    need('dpkg-deb', 'dpkg-shlibdeps', 'dpkg-buildflags', 'meson')
    folder = os.environ.get('HVPATCH_PACKAGES')
    if not folder:
        os.makedirs(os.path.join(BUILD, 'packages'), exist_ok=True)
        with open(os.path.join(BUILD, 'packages', 'lock'), 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = built(os.path.join(BUILD, 'packages'))
    return {name.split('_')[0]: os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.endswith('.deb')}
