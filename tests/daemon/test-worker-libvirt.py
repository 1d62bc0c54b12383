#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch-worker on domains of a real libvirt: memory is a shared file, the monitor libvirt's."""

import uuid

from worker import Worker, run

# pylint: disable=wrong-import-order
from guest import eventually
from libvirt import KVM_NAME, LibvirtGuest, hvpatch, main, under_kvm, virsh
from tap import Suite

suite = Suite('6.1', guest_class=LibvirtGuest)

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK, OPERATOR = range(8)
MODULE = 'hvp_cmdline'
NEW = 'hvpatch was here'


def job(guest, verb, **members):
    options = {'oracle': guest.oracle_path} if guest.oracle_path else {}
    return {'verb': verb, 'domain': {'uuid': guest.uuid, 'name': guest.name, 'uri': None},
            'options': options, **members}


@suite.case('apply-look-revert-DONE')
def _(guest):
    result = run(job(guest, 'apply'), guest.module(MODULE))
    assert result.exit == DONE and result.document['domain'] == guest.name, result
    assert NEW in guest.check('cat /proc/cmdline')
    result = run(job(guest, 'look'))
    assert result.exit == DONE, result
    assert [patch['name'] for patch in result.document['status']['patches']] == [MODULE], result
    info = result.document['info']
    assert info['kernel']['release'] == guest.release and info['patchable'] is True, info
    assert hvpatch('-d', guest.name, 'status').returncode == DONE
    result = run(job(guest, 'revert', name=MODULE))
    assert result.exit == DONE and NEW not in guest.check('cat /proc/cmdline'), result


@suite.case('domain-that-there-is-not-NOT_FOUND')
def _(guest):
    work = job(guest, 'apply')
    work['domain']['uuid'] = str(uuid.uuid4())
    result = run(work, guest.module(MODULE))
    assert result.exit == FAILED and result.code == 'NOT_FOUND', result
    assert result.document['domain'] == guest.name, result


@suite.case('paused-CONFLICT')
def _(guest):
    virsh('suspend', guest.name)
    try:
        result = run(job(guest, 'apply'), guest.module(MODULE))
        assert result.exit == REFUSED and result.code == 'CONFLICT', result
        assert guest.qmp.status() == 'paused'
    finally:
        virsh('resume', guest.name)


@suite.case('domain-under-kvm-LOOKED-AT-BY-ITS-PROCESS')
def _(guest):
    """The bare-metal guest: stopped for a moment, its memory found, and no kernel in it."""
    with under_kvm(guest):
        work = {'verb': 'look', 'options': {},
                'domain': {'uuid': virsh('domuuid', KVM_NAME), 'name': KVM_NAME}}

        def looked():
            result = run(work)
            assert result.code == 'NOT_FOUND' and 'no Linux kernel' in result.error['message'], \
                result
        eventually(looked)
        assert 'custom monitor' not in virsh('dominfo', KVM_NAME)


@suite.case('killed-in-the-middle-MENDED')
def _(guest):
    with Worker(job(guest, 'apply'), guest.module(MODULE)) as worker:
        worker.wait_for_state('loading')
        worker.kill_half()
        assert worker.has_no_result()

    def mended():
        result = run(job(guest, 'recover'))
        assert result.exit == DONE, result
    eventually(mended)
    assert guest.qmp.status() == 'running' and MODULE not in guest.loaded()
    assert NEW not in guest.check('cat /proc/cmdline')


if __name__ == '__main__':
    main(suite)
