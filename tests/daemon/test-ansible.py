#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Ansible example: whether it is one, and a play on an API with no VM behind it."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import types
import unittest

import fakeapi
import openapi
import taprun

sys.path.append(os.path.join(openapi.ROOT, 'python'))
import hvpatch  # pylint: disable=wrong-import-position

EXAMPLE = os.path.join(openapi.ROOT, 'docs/ansible')
PLAY_SECONDS = 120
PATCH_FILE = b'\x7fELF of a patch'


def lack():
    if shutil.which('ansible-playbook') is None:
        return 'no ansible-playbook (ansible-core)'
    return None if os.path.exists(openapi.PATH) else 'no hv-patcher/apid/openapi.json'


class Host(threading.Thread):
    """Carries out what is begun: each operation ends, as it should or as told."""

    def __init__(self, api, fails, poisoned):
        super().__init__(daemon=True)
        self.api = api
        self.fails = fails
        self.poisoned = poisoned        # closed once something is applied, or None
        self.blind = False              # no guest can be looked at after that
        self.code = None                # of the error as which reverts end
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.05):
            for started in list(self.api.things['operation'].values()):
                if started['state'] == 'queued':
                    self.carry_out(started)

    def carry_out(self, started):
        if started['domain_name'] in self.fails and started['verb'] == 'apply':
            result = fakeapi.change_result(started, 'busy', blockers=[
                fakeapi.blocker(7, 'init', 'do_sys_poll')])
            self.api.move(started['id'], 'failed', result=result,
                          error=fakeapi.problem('INCONSISTENT', 'as the test wants it'))
            return
        if self.code and started['verb'] == 'revert':
            self.api.move(started['id'], 'failed', error=fakeapi.problem(self.code, 'so it is'))
            return
        state = {'apply': 'applied', 'revert': 'reverted', 'check': 'checked'}[started['verb']]
        if state == 'applied' and self.poisoned:
            self.poisoned.close()
        result = None if state == 'checked' else fakeapi.change_result(started, state)
        self.api.move(started['id'], state, result=result)
        if state == 'checked':
            return
        target = self.api.things['domain'][started['domain']]
        used = self.api.things['patch'][started['patch']]
        patches = [fakeapi.applied(used)] if state == 'applied' else []
        if self.blind and state == 'applied':
            patches = None
        self.api.put('domain', {**target, 'patches': patches, 'seen_at': fakeapi.time_at()})


@unittest.skipIf(lack(), lack())
class Ansible(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='hvpatch-ansible-')
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.api = fakeapi.FakeApi(self.file('api.socket'))
        self.api.listen()
        self.addCleanup(self.api.hang_up)

    def file(self, name):
        return os.path.join(self.folder, name)

    def play(self, *arguments):
        environment = {**os.environ, 'ANSIBLE_NOCOWS': '1', 'ANSIBLE_LOCALHOST_WARNING': 'False',
                       'ANSIBLE_LOCAL_TEMP': self.file('local'), 'HOME': self.folder,
                       'ANSIBLE_REMOTE_TEMP': self.file('remote'), 'LC_ALL': 'C.UTF-8',
                       'PYTHONPATH': os.path.join(openapi.ROOT, 'python')}
        return subprocess.run(['ansible-playbook', 'livepatch.yml', *arguments], cwd=EXAMPLE,
                              env=environment, capture_output=True, text=True, check=False,
                              timeout=PLAY_SECONDS)

    def inventory(self, names, port):
        """An inventory of VMs whose host is this machine."""
        local = {'ansible_connection': 'local', 'ansible_python_interpreter': '/usr/bin/python3'}
        tenant = {'hypervisor': 'host', 'hvpatch_api': f'unix:{self.file("api.socket")}',
                  'health_host': '127.0.0.1', 'health_port': port, 'health_looks': 1,
                  'health_pause': 0, 'patch_folder': self.file('copies'), 'hvpatch_retry_delay': 1}
        tree = {'all': {'hosts': {'localhost': local}, 'children': {
            'hypervisors': {'hosts': {'host': local}},
            'tenants': {'hosts': {name: tenant for name in names}}}}}
        with open(self.file('inventory.json'), 'w', encoding='utf-8') as stream:
            json.dump(tree, stream)

    def roll_out(self, count, *arguments, fails=(), sick=False, blind=False):
        """A play over COUNT VMs; what it said.

        sick: nobody is well once something is applied. blind: nor can be looked at then.
        """
        names = [f'vm-{number}' for number in range(count)]
        for name in names:
            if fakeapi.uuid_of(name) not in self.api.things['domain']:
                self.api.put('domain', fakeapi.domain(name))
        os.makedirs(self.file('copies'), exist_ok=True)
        with open(self.file('fix.ko'), 'wb') as stream:
            stream.write(PATCH_FILE)
        health = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(health.close)
        self.inventory(names, health.getsockname()[1])
        host = Host(self.api, fails, health if sick else None)
        host.blind = blind
        host.start()
        try:
            return self.play('-i', self.file('inventory.json'), '-e',
                             f'patch_file={self.file("fix.ko")}', *arguments)
        finally:
            host.ended.set()

    def patched(self):
        return sorted(thing['name'] for thing in self.api.things['domain'].values()
                      if thing['patches'])

    def begun(self, verb):
        return sorted(thing['domain_name'] for thing in self.api.things['operation'].values()
                      if thing['verb'] == verb)

    def test_syntax(self):
        done = self.play('-i', 'inventory.yml', '--syntax-check', '-e', 'patch_file=fix.ko')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_APPLIED_and_again_NOTHING(self):
        done = self.roll_out(3)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.patched(), ['vm-0', 'vm-1', 'vm-2'])
        self.assertIn('paused 85 us', done.stdout)
        uploads = [request for request in self.api.requests if request[:2] == ('POST',
                                                                              '/v1/patches')]
        self.assertEqual(uploads[0][3], PATCH_FILE)
        done = self.roll_out(3)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(len(self.begun('apply')), 3)

    def test_canary_that_fails_STOPS(self):
        done = self.roll_out(3, fails=('vm-0',))
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.begun('apply'), ['vm-0'], done.stdout)
        self.assertEqual(self.patched(), [])

    def test_sick_with_it_REVERTED(self):
        done = self.roll_out(2, sick=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual((self.begun('apply'), self.begun('revert')), (['vm-0'], ['vm-0']),
                         done.stdout)
        self.assertEqual(self.patched(), [])

    def test_sick_and_not_to_be_looked_at_REVERTED(self):
        done = self.roll_out(1, sick=True, blind=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.begun('revert'), ['vm-0'], done.stdout)

    def test_check_mode_WRITES_NOTHING(self):
        done = self.roll_out(2, '--check')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((self.begun('apply'), self.patched()), ([], []))
        self.assertIn('vm-1', self.begun('check'))


@unittest.skipIf(lack(), lack())
class Absent(unittest.TestCase):
    """The module itself, asked to take a patch back."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='hvpatch-ansible-')
        self.addCleanup(folder.cleanup)
        self.api = fakeapi.FakeApi(os.path.join(folder.name, 'api.socket'))
        self.api.listen()
        self.addCleanup(self.api.hang_up)
        self.client = hvpatch.Client(f'unix:{folder.name}/api.socket', retry_seconds=0)
        self.patch = self.api.put('patch', fakeapi.patch('fix'))
        path = os.path.join(EXAMPLE, 'library/hvpatch_patch.py')
        spec = importlib.util.spec_from_file_location('hvpatch_patch', path)
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def absent(self, code=None, **domain):
        """(whether it changed something, how many reverts were begun). code: how they fail."""
        self.api.put('domain', fakeapi.domain('vm', **domain))
        parameters = {'domain': 'vm', 'patch': self.patch['sha256'], 'state': 'absent',
                      'timeout': 1, 'max_pause': 1, 'replace': None, 'wait': 10}
        before = len(self.api.things['operation'])
        host = Host(self.api, (), None)
        host.code = code
        host.start()
        try:
            done = self.module.carry_out(self.client, types.SimpleNamespace(params=parameters,
                                                                            check_mode=False))
        finally:
            host.ended.set()
            host.join()
        return done['changed'], len(self.api.things['operation']) - before

    def test_seen_without_it_UNCHANGED(self):
        self.assertEqual(self.absent(patches=[]), (False, 0))
        self.assertEqual(self.absent(patches=None, state='shut off'), (False, 0))

    def test_there_or_not_known_REVERTED(self):
        damaged = fakeapi.applied(self.patch, verified=False, state='tampered')
        for patches in (None, [fakeapi.applied(self.patch)], [damaged]):
            with self.subTest(patches=patches):
                self.assertEqual(self.absent(patches=patches), (True, 1))

    def test_seen_before_the_last_operation_REVERTED(self):
        document = self.api.put('domain', fakeapi.domain('vm'))
        begun = self.api.put('operation', fakeapi.operation(document, 'apply', self.patch))
        self.api.move(begun['id'], 'applied', result=fakeapi.change_result(begun))
        self.assertEqual(self.absent(patches=[]), (True, 1))
        self.assertEqual(self.absent(patches=[], seen_at=fakeapi.time_at()), (False, 0))

    def test_reverted_by_others_UNCHANGED(self):
        self.assertEqual(self.absent('NOT_FOUND', patches=None), (False, 1))
        with self.assertRaises(hvpatch.OperationFailed):
            self.absent('BUSY', patches=None)


if __name__ == '__main__':
    taprun.main()
