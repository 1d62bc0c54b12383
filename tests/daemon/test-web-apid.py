#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The web page and the Python client against hvpatch-apid itself, with a scripted core behind it:
test-web-apid.py PROGRAM. The browser comes through a tunnel to the unix socket, as through ssh."""

import itertools
import os
import sys
import threading
import unittest

import browser
import openapi
import taprun
from tunnel import Tunnel

sys.path.insert(0, os.path.join(openapi.ROOT, 'python'))

# pylint: disable=wrong-import-position
import hvpatch

try:
    from frontend import FrontEnd
    MISSING = None
except ImportError as error:
    MISSING = f'no {error.name}'

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else None
PATCH_FILE = b'\x7fELF of a patch'


class Case(unittest.TestCase):
    def setUp(self):
        if MISSING or not PROGRAM:
            self.skipTest(MISSING or 'no hvpatch-apid')
        self.front = FrontEnd(PROGRAM)
        self.addCleanup(self.front.close)
        self.client = hvpatch.Client('unix:' + self.front.socket_path, timeout=10, retry_seconds=10)


class Client(Case):
    def test_a_patch_from_upload_to_its_end(self):
        with self.client.events() as stream:
            patch, new = self.client.upload(PATCH_FILE, signature=b'untrusted comment: x\n')
            self.assertTrue(new)
            self.assertFalse(self.client.upload(PATCH_FILE)[1])
            domain = self.client.find_domain('web-01')
            begun = self.client.apply(domain, patch, timeout=60)
            with self.assertRaises(hvpatch.Busy) as raised:
                self.client.check(domain, patch)
            self.assertEqual(raised.exception.operation, begun.id)
            self.front.core.tell('end', identity=begun.id, state='applied')
            self.assertEqual(self.client.wait_for(begun, 10).state, 'applied')
            seen = [(event.type, getattr(event.document, 'state', None))
                    for event in itertools.islice(stream, 3)]
        self.assertEqual(seen, [('patch', None), ('operation', 'queued'),
                                ('operation', 'applied')])

    def test_key_ONE_OPERATION(self):
        domain = self.client.domains()[0]
        first, again = (self.client.recover(domain, idempotency_key='k') for _ in range(2))
        self.assertEqual(first.id, again.id)
        with self.assertRaises(hvpatch.IdempotencyConflict):
            self.client.revert(domain, 'fix', idempotency_key='k')
        self.client.cancel(first)
        self.assertEqual(self.client.wait_for(first, 10, check=False).state, 'cancelled')

    def test_errors_HAVE_THEIR_CLASS(self):
        for kind, ask in ((hvpatch.NotFound, lambda: self.client.patch('0' * 64)),
                          (hvpatch.BadData, lambda: self.client.upload(b'no ELF')),
                          (hvpatch.InvalidArgument, lambda: self.client.start(
                              self.client.domains()[0], 'apply')),
                          (hvpatch.Gone, lambda: self.client.events(10 ** 9))):
            with self.assertRaises(kind):
                ask()

    def test_core_that_dies_AND_COMES_BACK(self):
        self.front.core.kill()
        threading.Timer(0.5, self.front.core.start).start()
        self.assertEqual(len(self.client.domains()), 2)

    def test_service(self):
        self.assertEqual(self.client.health()['status'], 'ok')
        self.assertIn('hvpatch_api_', self.client.metrics())
        self.assertEqual(self.client.openapi()['openapi'], '3.0.3')
        self.assertEqual(self.client.refresh(self.client.find_domain('db-01')).name, 'db-01')


class Web(Case):
    page = None

    def setUp(self):
        lack = browser.missing()
        if lack is not None:
            self.skipTest(lack)
        super().setUp()
        if Web.page is None:
            Web.page = browser.Page(browser.start())
            unittest.addModuleCleanup(Web.page.quit)
        tunnel = Tunnel(self.front.socket_path)
        self.addCleanup(tunnel.close)
        self.page.look()
        self.page.driver.get_log('browser')
        self.page.open(tunnel.url)
        self.page.until('document.getElementById("link").dataset.state === "live"')

    def tearDown(self):
        if self.page is not None:
            self.assertEqual(self.page.complaints(), [])

    def test_page_LIVE(self):
        self.page.until('document.querySelectorAll("#domain-rows tr").length === 2')
        self.assertIn('6.1.0-56-amd64', self.page.text('#domain-rows'))
        patch, _ = self.client.upload(PATCH_FILE)
        self.page.until('document.getElementById("patch-list").children.length === 1')
        begun = self.client.apply(self.client.find_domain('web-01'), patch)
        self.page.until('document.getElementById("running-list").innerText.includes("web-01")')
        self.front.core.tell('end', identity=begun.id, state='applied')
        self.page.until('document.getElementById("ended-list").innerText.includes("applied")')

    def test_apply_and_cancel(self):
        self.client.upload(PATCH_FILE)
        domain = self.client.find_domain('web-01')
        self.page.click(f'[data-uuid="{domain.uuid}"] button')
        self.page.click('[data-key="apply"]:enabled')
        self.page.click('#dialog-go')
        self.page.until('!document.getElementById("dialog").open')
        begun, = self.client.operations(domain=domain)
        self.assertEqual((begun.verb, begun.options['max_pause']), ('apply', 10))
        self.page.click(f'[data-key="cancel {begun.id}"]')
        self.page.click('#dialog-go')
        self.page.until('document.getElementById("ended-list").innerText.includes("cancelled")')

    def test_refusal_SAID(self):
        self.client.upload(PATCH_FILE)
        domain = self.client.find_domain('web-01')
        self.page.click(f'[data-uuid="{domain.uuid}"] button')
        self.page.click('[data-key="check"]:enabled')
        self.front.core.tell('roles', roles={}, default={'verbs': ['view'], 'domains': ['*']})
        self.page.click('#dialog-go')
        self.page.until('document.getElementById("dialog-problem").innerText.includes("FORBIDDEN")')

    def test_front_end_that_restarts_COMES_BACK(self):
        self.front.stop()
        self.page.until('document.getElementById("link").dataset.state === "lost"')
        self.front.start()
        self.page.until('document.getElementById("link").dataset.state === "live"', seconds=40)


if __name__ == '__main__':
    taprun.main()
