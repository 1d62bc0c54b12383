#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM tests once more, on Linux guests under KVM: each script of them is one case here.

    tests/kvm/test-linux.py [CASE...]

Skipped by name on hosts whose KVM does not run Linux. What only emulated guests can do (the
plugin's oracle, breakpoints) is none of these scripts' business.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'vm'))
from tap import Skip, Suite  # noqa: E402

SCRIPTS = ('vm/test-cli.py', 'vm/test-apply.py', 'vm/test-beside.py', 'vm/test-modules.py',
           'vm/test-objects.py', 'vm/test-object-modules.py', 'vm/test-prod.py',
           'vm/test-stacks.py', 'vm/test-sweep.py', 'vm/test-agent.py', 'vm/test-kthreads.py',
           'fault/test-kill.py', 'fault/test-kill-objects.py', 'fault/test-lifecycle.py')
TIMEOUT = 1800.0

suite = Suite()


def missing():
    """What this host lacks, or None."""
    with open('/proc/cpuinfo') as cpus:
        if not re.search(r'^flags\b.*\b(vmx|svm)\b', cpus.read(), re.MULTILINE):
            return 'no CPU with vmx or svm: a KVM that is there all the same does not run Linux'
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return 'no usable /dev/kvm'
    return None


def register(script):
    @suite.case(os.path.basename(script)[len('test-'):-len('.py')] + '-UNDER_KVM', guest=False,
                timeout=TIMEOUT)
    def _():
        reason = missing()
        if reason:
            raise Skip(reason)
        run = subprocess.run([os.path.join(ROOT, 'tests', script)], capture_output=True, text=True,
                             env={**os.environ, 'HVPATCH_VM_ACCEL': 'kvm'}, check=False)
        failed = [line for line in run.stdout.splitlines() if line.startswith('not ok')]
        assert run.returncode == 0 and not failed, '\n'.join(failed) + run.stderr[-2000:]


for name in SCRIPTS:
    register(name)

if __name__ == '__main__':
    suite.main()
