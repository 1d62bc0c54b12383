#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether AppArmor's parser takes the rules that are shipped for libvirt's profiles of QEMU:
test-apparmor.py FILE. Loads nothing into the kernel."""

import os
import shutil
import subprocess
import sys

PROFILE = 'profile hvpatch-test {{\n  /dev/kvm rw,\n{}\n}}\n'


def takes(parser, rules):
    """What the parser says of a profile with RULES: (whether it is one, its words)."""
    result = subprocess.run([parser, '--skip-kernel-load', '--skip-read-cache', '--config-file',
                             '/dev/null', '--base', '/'],
                            input=PROFILE.format(rules), text=True, capture_output=True,
                            check=False, timeout=60)
    return result.returncode == 0, ' | '.join(result.stderr.split('\n'))


def main(path):
    parser = shutil.which('apparmor_parser', path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    print('1..2')
    if parser is None:
        print('ok 1 rules-TAKEN # SKIP apparmor_parser is not installed')
        print('ok 2 broken-rules-REFUSED # SKIP apparmor_parser is not installed')
        return
    with open(path) as stream:
        rules = stream.read()
    ok, words = takes(parser, rules)
    print(f'{"ok" if ok else "not ok"} 1 rules-TAKEN\n# {words}')
    broken, _ = takes(parser, rules.replace('tracedby', 'tracedbye', 1))
    print(f'{"not ok" if broken else "ok"} 2 broken-rules-REFUSED')


if __name__ == '__main__':
    main(sys.argv[1])
