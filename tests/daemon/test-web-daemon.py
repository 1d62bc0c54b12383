#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The web page and the Python client over hvpatch-apid over hvpatchd, on libvirt's test driver with
workers that do as they are told: test-web-daemon.py HVPATCH-APID; hvpatchd is in $HVPATCH_BUILD."""

import os
import subprocess
import sys
import tempfile
import unittest

import browser
import fakeapi
import openapi
import taprun
from tunnel import Tunnel

sys.path.insert(0, os.path.join(openapi.ROOT, 'python'))

import hvpatch  # pylint: disable=wrong-import-position

try:
    import core
    LACK = browser.missing()
except ImportError as error:
    LACK = f'no {error.name}'

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else None
APID_USER = '[api]\nuser=root\n'


@unittest.skipIf(LACK or not PROGRAM, LACK or 'no hvpatch-apid')
class Daemon(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='hvpatch-web-')
        self.addCleanup(folder.cleanup)
        self.socket = os.path.join(folder.name, 'api.socket')
        self.bus = self.enterContext(core.Bus())
        self.core = self.enterContext(core.Core(
            self.bus, domains=['web-1', 'db-1'], stopped=['off-1'], config=APID_USER))
        self.start_apid(folder.name)
        self.client = hvpatch.Client(self.socket, timeout=10, retry_seconds=15)
        self.client.health()
        self.page = browser.Page(browser.start())
        self.addCleanup(self.page.quit)
        tunnel = Tunnel(self.socket)
        self.addCleanup(tunnel.close)
        self.page.look()
        self.page.open(tunnel.url)
        self.page.until('document.getElementById("link").dataset.state === "live"')

    def start_apid(self, folder):
        config = os.path.join(folder, 'hvpatchd.conf')
        with open(config, 'w', encoding='utf-8') as stream:
            stream.write(f'[api]\nsocket={self.socket}\nsocket-mode=0600\n')
        process = subprocess.Popen([PROGRAM, '--as-root', '--bus', self.bus.address, '--config',
                                    config], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.terminate)
        fakeapi.wait_until(lambda: os.path.exists(self.socket), 'a socket')

    def test_an_apply_from_page_and_client(self):
        self.core.script('apply', wait='go', progress=[
            {'state': 'waiting', 'step': 'tasks in the way', 'attempt': 2, 'blockers': 1}])
        self.core.upload()
        patch, = self.client.patches()
        domain = self.client.find_domain('web-1')
        self.page.click(f'[data-uuid="{domain.uuid}"] button')
        self.page.click('[data-key="apply"]:enabled')
        self.page.click('#dialog-go')
        self.page.until('document.getElementById("running-list").innerText'
                        '.includes("attempt 2, 1 task in the way")')
        begun, = self.client.operations(domain=domain)
        self.assertEqual((begun.state, begun.patch, begun.principal),
                         ('waiting', patch.sha256, f'uid:{os.getuid()}'))
        with open(os.path.join(self.core.scripts, 'go'), 'w', encoding='utf-8'):
            pass
        self.assertEqual(self.client.wait_for(begun, 15).pause_usec, 85)
        self.page.until('document.getElementById("ended-list").innerText.includes("85 µs")')
        self.assertIn('shut off', self.page.text('#domain-rows'))
        self.assertEqual(self.page.complaints(), [])


if __name__ == '__main__':
    taprun.main()
