#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Ansible example: whether it is one, and a play on an API with no VM behind it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

import fakeapi
import openapi
import taprun

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
        self.api.put('domain', {**target, 'patches': patches})


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

    def roll_out(self, count, *arguments, fails=(), sick=False):
        """A play over COUNT VMs; what it said. sick: nobody is well once something is applied."""
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

    def test_check_mode_WRITES_NOTHING(self):
        done = self.roll_out(2, '--check')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((self.begun('apply'), self.patched()), ([], []))
        self.assertIn('vm-1', self.begun('check'))


if __name__ == '__main__':
    taprun.main()
