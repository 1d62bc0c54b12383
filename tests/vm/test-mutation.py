#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Broken dumps of a real guest: hvpatch says something of each, soon and in little memory.

A short run of what scripts/mutate does by the ten thousand. The drawing is the same each time, the
guest is not. That the mutations hit something is asserted, too: else all could be harmless.
"""

import os

from guest import ROOT
from mutation import GUEST_MIB, Session, dump_guest
from tap import Suite

suite = Suite('6.1', '6.12')

SEED, COUNT = 1, 150
AREAS = 14


@suite.case('broken-dump-ANSWERED-soon', options={'memory': GUEST_MIB}, timeout=600)
def _(guest):
    path = guest.path('core')
    dump_guest(guest, path)
    with Session(path, keep=os.path.join(ROOT, 'build-mutate')) as session:
        session.run(SEED, 0, COUNT)
        report = session.report()
    assert not session.violations, report
    same = sum(count for what, count in session.outcomes.items() if what.endswith('the same'))
    failed = sum(count for what, count in session.outcomes.items() if ': 0 ' not in what)
    assert same and failed >= COUNT // 10, report
    assert len(session.areas) == AREAS, report
    print('\n'.join('# ' + line for line in report.splitlines()))


if __name__ == '__main__':
    suite.main()
