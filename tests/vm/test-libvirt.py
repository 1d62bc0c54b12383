#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch on domains of a real libvirt: found by name, UUID and id, listed, patched; refused where
libvirt is at it; and who dies in the middle.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time

from libvirt import LibvirtGuest, bridges, daemon, hvpatch, main, missing, virsh
from tap import Skip, Suite

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK, OPERATOR = 0, 1, 2, 3, 4, 5, 6, 7
NEW = 'hvpatch was here'

suite = Suite('6.1', guest_class=LibvirtGuest)


@suite.case('info-OK')
def _(guest):
    result = guest.hvpatch('info')
    assert result.status == DONE and result.json['kernel']['release'] == guest.release, result
    assert result.json['patchable'] is True, result
    assert result.json['taint'] == 'custom-monitor', result
    table = guest.hvpatch('info', output='table').stdout
    assert re.search(r'^taint +custom-monitor', table, re.MULTILINE), table


@suite.case('apply-status-revert-APPLIED')
def _(guest):
    before = guest.check('cat /proc/cmdline')
    result = guest.hvpatch('check', guest.module('hvp_cmdline'))
    assert result.status == DONE and result.json['applicable'], result
    result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
    assert result.status == DONE and result.json['result'] == 'applied', result
    assert result.json['domain'] == guest.name, result
    assert guest.check('cat /proc/cmdline') == NEW
    result = guest.hvpatch('status')
    assert [patch['verified'] for patch in result.json['patches']] == [True], result
    result = guest.hvpatch('revert', 'hvp_cmdline')
    assert result.status == DONE and result.json['result'] == 'reverted', result
    assert guest.check('cat /proc/cmdline') == before
    assert guest.state() == 'running'


if __name__ == '__main__':
    main(suite)
