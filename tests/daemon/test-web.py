#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The web page in headless Chromium, on an API with no VM behind it: what it shows, live, what it
asks for, by keyboard alone, in light, dark and narrow."""

import glob
import json
import os
import re
import time
import unittest

import browser
import fakeapi
import openapi
import taprun

# On a crowded host; some 20 and 80 ms on an idle one.
FLUID_MSEC = 500
FORBIDDEN = re.compile(r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|'
                       r'new Function|setTimeout\(\s*[\'"]')


class Web(unittest.TestCase):
    """A case has a browser of all cases, and an API of its own with three domains."""

    page = None

    @classmethod
    def setUpClass(cls):
        lack = browser.missing()
        if lack is None and not os.path.exists(openapi.PATH):
            lack = 'no hv-patcher/apid/openapi.json'
        cls.lack = lack
        if lack is None and Web.page is None:
            Web.page = browser.Page(browser.start())
            unittest.addModuleCleanup(Web.page.quit)

    def setUp(self):
        if self.lack is not None:
            self.skipTest(self.lack)
        self.api = fakeapi.FakeApi()
        self.api.listen()
        self.addCleanup(self.api.hang_up)
        self.page.look()

    def fill(self):
        self.patch = self.api.put('patch', fakeapi.patch('fix'))
        entry = fakeapi.applied(self.patch)
        self.web = self.api.put('domain', fakeapi.domain('web-1'))
        self.old = self.api.put('domain', fakeapi.domain('web-2', patches=[entry]))
        self.off = self.api.put('domain', fakeapi.domain(
            'db-1', kernel=None, patches=None, patchable=None, backend=None, seen_at=None,
            state='shut off'))

    def open(self):
        self.page.driver.get_log('browser')
        self.page.open(self.api.url)

    def tearDown(self):
        self.assertEqual(self.api.broken, [], 'the API that tests stand on keeps its contract')
        self.assertEqual(self.page.complaints(), [], 'the console has no errors')

    def posts(self, pattern):
        return [request for request in self.api.requests
                if request[0] == 'POST' and re.search(pattern, request[1])]

    def row(self, name):
        return self.page.ask(
            '[...document.querySelectorAll("#domain-rows > tr")]'
            '.find((row) => row.querySelector("button")?.innerText === arguments[0])?.innerText',
            name) or ''

    def until_row(self, name, words):
        fakeapi.wait_until(lambda: words in self.row(name), f'{words!r} in the row of {name}')

    def open_row(self, name):
        self.page.until('document.querySelector(arguments[0])', f'[data-uuid="{name}"] button')
        self.page.click(f'[data-uuid="{name}"] button')

    def ask_for(self, verb, uuid):
        self.open_row(uuid)
        self.page.click(f'[data-key="{verb}"]')
        self.page.until('document.getElementById("dialog").open')


class Shows(Web):
    def test_empty_host_SAID(self):
        self.open()
        self.page.until('!document.getElementById("domains-empty").hidden')
        self.assertIn('This host has no domains', self.page.text('#domains'))
        self.assertIn('Nothing is running', self.page.text('#running'))
        self.assertIn('No VM was stopped yet', self.page.text('#pauses'))

    def test_domains_with_kernel_patches_and_state(self):
        self.fill()
        self.open()
        self.until_row('web-2', '6.1.0-56-amd64')
        self.assertIn('fix', self.row('web-2'))
        self.assertIn('none', self.row('web-1'))
        self.assertIn('shut off', self.row('db-1'))
        self.open_row(self.old['uuid'])
        self.page.until('document.querySelector("#domain-rows .detail")')
        detail = self.page.text('#domain-rows .detail')
        for words in ('verified in the guest', 'CVE-2026-1234', self.old['uuid'],
                      self.old['kernel']['build_id'], 'cmdline_proc_show'):
            self.assertIn(words, detail)

    def test_why_it_cannot_be_patched(self):
        self.fill()
        self.api.put('domain', {**self.web, 'patchable': False, 'reasons': ['no BTF in there']})
        self.open()
        self.until_row('web-1', 'cannot be patched')
        self.open_row(self.web['uuid'])
        self.page.until('document.body.innerText.includes("no BTF in there")')

    def test_running_operation_LIVE(self):
        self.fill()
        self.open()
        started = self.api.put('operation',
                               fakeapi.operation(self.web, 'apply', self.patch))
        self.until_row('web-1', 'apply: queued')
        self.api.move(started['id'], 'waiting', attempt=3, blockers=2, step='tasks in the way')
        self.until_row('web-1', 'apply: waiting')
        card = self.page.text('#running-list')
        for words in ('apply fix', 'web-1', 'attempt 3', '2 tasks in the way'):
            self.assertIn(words, card)
        self.assertEqual(self.page.text('#running-list [aria-current="step"]'), 'waiting')
        self.api.move(started['id'], 'applied',
                      result=fakeapi.change_result(self.api.things['operation'][started['id']]))
        self.page.until('document.getElementById("running-list").children.length === 0')
        self.page.until('document.getElementById("ended-list").innerText.includes("85 µs")')
        self.page.until('document.getElementById("announce").textContent === '
                        '"apply on web-1: applied"')

    def test_who_is_in_the_way(self):
        self.fill()
        started = self.api.put('operation', fakeapi.operation(self.web, 'apply', self.patch))
        result = fakeapi.change_result(
            started, 'busy', code='BUSY', message='in the way', pause_usec=0, functions=[],
            blockers=[fakeapi.blocker(2210, 'nginx', 'do_sys_poll')])
        self.api.move(started['id'], 'failed', error=fakeapi.problem('BUSY', 'in the way'),
                      result=result)
        self.open()
        self.page.until('!document.getElementById("blocked").hidden')
        blocked = self.page.text('#blocked')
        for words in ('web-1', '2210', 'nginx', 'do_sys_poll', 'is in it'):
            self.assertIn(words, blocked)
        self.page.click('#blocked summary')
        self.assertIn('do_syscall_64+0x5c/0x90', self.page.text('#blocked pre'))

    def test_what_needs_an_operator(self):
        self.fill()
        started = self.api.put('operation', fakeapi.operation(self.web, 'apply', self.patch))
        self.api.move(started['id'], 'needs-operator',
                      error=fakeapi.problem('INCONSISTENT', 'neither old nor new'))
        self.open()
        self.until_row('web-1', 'needs an operator')
        self.assertIn('INCONSISTENT', self.page.text('#attention'))
        self.page.click('#attention [data-key^="recover"]')
        self.page.click('#dialog-go')
        fakeapi.wait_until(lambda: self.posts('/operations$'), 'a request')
        self.assertEqual(json.loads(self.posts('/operations$')[0][3]), {'verb': 'recover'})

    def test_pauses_PLOT_AND_TABLE(self):
        self.fill()
        for usec in (85, 1200, 40000):
            started = fakeapi.operation(self.web, 'apply', self.patch)
            started.update(state='applied', ended_at=fakeapi.time_at(usec / 100),
                           started_at=started['created_at'], cancellable=False,
                           result=fakeapi.change_result(started, pause_usec=usec))
            self.api.put('operation', started)
        self.open()
        self.page.until('document.querySelectorAll("#plot .point").length === 3')
        heights = self.page.ask('[...document.querySelectorAll("#plot .point")]'
                                '.map((node) => Number(node.getAttribute("cy")))')
        steps = sorted(heights)
        self.assertAlmostEqual((steps[2] - steps[1]) / (steps[1] - steps[0]), 1.15 / 1.52, 1,
                               'a log scale')
        self.assertIn('median 1.2 ms', self.page.ask(
            'document.querySelector("#plot svg").getAttribute("aria-label")'))
        self.page.click('#pauses-details summary')
        self.page.until('document.querySelectorAll("#pause-rows tr").length === 3')
        self.assertIn('85 µs', self.page.text('#pause-rows'))

    def test_text_of_guests_IS_TEXT(self):
        evil = '<img src=x onerror="document.title=1"><script>document.title=1</script>&amp;\u202e'
        self.fill()
        self.api.put('domain', fakeapi.domain(evil, state='running', patchable=False,
                                              reasons=[evil], kernel={
                                                  'release': evil, 'version': evil,
                                                  'build_id': ''}))
        started = self.api.put('operation', fakeapi.operation(self.web, 'apply', self.patch,
                                                              step=evil, domain_name=evil))
        self.open()
        self.api.move(started['id'], 'failed', error=fakeapi.problem('BAD_DATA', evil))
        self.page.until('document.getElementById("ended-list").children.length === 1')
        self.open_row(fakeapi.uuid_of(evil))
        self.page.click('#ended-list summary')
        self.page.until('document.body.innerText.includes(arguments[0])', evil[:30])
        self.assertEqual(self.page.count('img, body script'), 0)
        self.assertEqual(self.page.ask('document.title'), 'hvpatch')


class Follows(Web):
    def test_connection_that_breaks_COMES_BACK(self):
        self.fill()
        self.open()
        self.until_row('web-1', 'running')
        self.api.put('domain', {**self.web, 'state': 'paused'})
        self.until_row('web-1', 'paused')
        self.api.hang_up()
        self.page.until('document.getElementById("link").dataset.state === "lost"')
        self.page.until('document.getElementById("alerts").innerText.includes("OFFLINE")')
        self.api.put('domain', {**self.web, 'state': 'crashed'})
        self.api.listen()
        self.page.until('document.getElementById("link").dataset.state === "live"', seconds=30)
        self.until_row('web-1', 'crashed')
        asked = [request[1] for request in self.api.requests if 'events' in request[1]]
        self.assertRegex(asked[-1], r'since=\d+$')
        self.assertEqual(self.page.text('#alerts'), '')

    def test_events_that_were_missed_READ_ANEW(self):
        self.fill()
        self.open()
        self.api.put('domain', {**self.web, 'state': 'paused'})
        self.until_row('web-1', 'paused')
        self.api.hang_up()
        self.api.drop('domain', self.old['uuid'])
        self.api.put('domain', {**self.web, 'state': 'crashed'})
        self.api.forget_events()
        self.api.listen()
        fakeapi.wait_until(lambda: 'crashed' in self.row('web-1'), 'the new state', 30)
        fakeapi.wait_until(lambda: not self.row('web-2'), 'a row less')

    def test_forbidden_SAID(self):
        self.api.refuse('GET', '/v1/domains', 'FORBIDDEN', 'uid:1000 may not view')
        self.open()
        self.page.until('document.getElementById("alerts").innerText.includes("FORBIDDEN")')
        self.assertIn('uid:1000 may not view', self.page.text('#alerts'))
        self.assertNotIn('Nothing is running', self.page.text('#running'))

    def test_focus_and_what_is_open_STAY(self):
        self.fill()
        self.open()
        self.open_row(self.old['uuid'])
        self.page.until('document.querySelector("[data-key^=revert]")')
        self.page.run('document.querySelector("[data-key^=revert]").focus()')
        self.api.put('domain', {**self.old, 'state': 'paused'})
        for number in range(20):
            self.api.put('domain', fakeapi.domain(f'a-{number}'))
        self.until_row('a-19', 'running')
        self.assertEqual(self.page.focused(), 'Revert fix on web-2')
        self.assertEqual(self.page.count('#domain-rows .detail'), 1)

    def test_500_domains_FLUID(self):
        self.fill()
        for number in range(500):
            self.api.put('domain', fakeapi.domain(f'vm-{number:03}'))
        self.open()
        self.page.until('document.querySelectorAll("#domain-rows tr").length === 503')
        typed = self.page.run(
            'const field = document.getElementById("filter-text"); const from = performance.now();'
            'field.value = "vm-49"; field.dispatchEvent(new Event("input"));'
            'document.body.offsetHeight; return performance.now() - from')
        self.assertEqual(self.page.text('#filter-count'), '10 of 503')
        self.page.run('document.getElementById("filter-text").value = "";'
                      'document.getElementById("filter-text").dispatchEvent(new Event("input"))')
        sorted_ = self.page.run(
            'const from = performance.now(); document.querySelector(".sort").click();'
            'document.body.offsetHeight; return performance.now() - from')
        self.page.run(
            'window.longest = 0; let last = performance.now(); const frame = () => {'
            'const now = performance.now(); window.longest = Math.max(window.longest, now - last);'
            'last = now; requestAnimationFrame(frame) }; requestAnimationFrame(frame)')
        for number in range(500):
            self.api.put('domain', fakeapi.domain(f'vm-{number:03}', state='paused'))
        self.until_row('vm-499', 'paused')
        longest = self.page.ask('window.longest')
        print(f'# filter {typed:.0f} ms, sort {sorted_:.0f} ms, longest frame of 500 events '
              f'{longest:.0f} ms')
        self.assertLess(max(typed, sorted_), FLUID_MSEC)
        self.assertLess(longest, 2 * FLUID_MSEC)


class Asks(Web):
    def test_apply_BY_KEYBOARD_ALONE(self):
        self.fill()
        self.open()
        self.until_row('web-1', 'running')
        self.page.press('TAB')
        self.assertEqual(self.page.focused(), 'Skip to the domains')
        self.page.press('ENTER')
        self.page.tab_to('db-1', 10)
        self.page.press('ARROW_DOWN')
        self.assertEqual(self.page.focused(), 'web-1')
        self.page.press('ENTER')
        self.page.tab_to('Apply a patch: web-1', 5)
        self.page.press('ENTER')
        self.page.until('document.getElementById("dialog").open')
        self.page.tab_to('Apply to web-1', 10)
        self.page.press('ENTER')
        request = fakeapi.wait_until(lambda: self.posts('/operations$'), 'a request')[0]
        self.assertEqual(json.loads(request[3]), {
            'verb': 'apply', 'patch': self.patch['sha256'],
            'options': {'timeout': 30, 'max_pause': 10, 'prod': True, 'replace': None}})
        self.assertGreater(len(request[2]['Idempotency-Key']), 20)
        self.assertEqual(request[2]['Content-Type'], 'application/json')
        self.page.until('!document.getElementById("dialog").open')
        self.until_row('web-1', 'apply: queued')

    def test_dialog_KEEPS_THE_FOCUS_and_gives_it_back(self):
        self.fill()
        self.open()
        self.open_row(self.web['uuid'])
        self.page.until('document.querySelector("[data-key=apply]")')
        self.page.run('document.querySelector("[data-key=apply]").focus()')
        self.page.press('ENTER')
        self.page.until('document.getElementById("dialog").open')
        for _ in range(15):
            self.page.press('TAB')
            self.assertTrue(self.page.ask(
                'document.activeElement === document.body || '
                'document.getElementById("dialog").contains(document.activeElement)'))
        self.page.press('ESCAPE')
        self.page.until('!document.getElementById("dialog").open')
        self.assertEqual(self.page.focused(), 'Apply a patch: web-1')
        self.assertEqual(self.posts(''), [])

    def test_busy_SAID_and_the_next_try_HAS_ANOTHER_KEY(self):
        self.fill()
        path = f'/v1/domains/{self.web["uuid"]}/operations'
        self.api.refuse('POST', path, 'BUSY', 'domain web-1 has an operation already',
                        operation=fakeapi.uuid_of('other'))
        self.open()
        self.ask_for('apply', self.web['uuid'])
        self.page.click('#dialog-go')
        self.page.until('document.getElementById("dialog-problem").innerText.includes("BUSY")')
        self.assertIn('has an operation already', self.page.text('#dialog-problem'))
        self.assertIn('Show the operation in the way', self.page.text('#dialog-problem'))
        self.page.click('#dialog-go')
        fakeapi.wait_until(lambda: len(self.posts(path)) == 2, 'another request')
        self.assertEqual(len({request[2]['Idempotency-Key'] for request in self.posts(path)}), 2)

    def test_answer_that_was_lost_SENT_AGAIN_WITH_ITS_KEY(self):
        self.fill()
        path = f'/v1/domains/{self.web["uuid"]}/operations'
        self.api.refuse('POST', path, 'TIMED_OUT', 'hvpatchd did not answer within 25 s')
        self.open()
        self.ask_for('check', self.web['uuid'])
        self.page.click('#dialog-go')
        self.page.until('document.getElementById("dialog-problem").innerText.includes("TIMED_OUT")')
        self.page.click('#dialog-go')
        fakeapi.wait_until(lambda: len(self.posts(path)) == 2, 'another request')
        self.assertEqual(len({request[2]['Idempotency-Key'] for request in self.posts(path)}), 1)
        self.assertEqual(json.loads(self.posts(path)[0][3]),
                         {'verb': 'check', 'patch': self.patch['sha256']})

    def test_nonsense_in_a_field_NOT_SENT(self):
        self.fill()
        self.open()
        self.ask_for('apply', self.web['uuid'])
        self.page.run('document.querySelector("[name=max_pause]").value = "-3"')
        self.page.click('#dialog-go')
        time.sleep(0.3)
        self.assertTrue(self.page.ask('document.getElementById("dialog").open'))
        self.assertEqual(self.posts(''), [])

    def test_revert(self):
        self.fill()
        self.open()
        self.open_row(self.old['uuid'])
        self.page.click('[data-key="revert fix"]')
        self.assertIn('open to CVE-2026-1234 again', self.page.text('#dialog'))
        self.page.click('#dialog-go')
        request = fakeapi.wait_until(lambda: self.posts('/operations$'), 'a request')[0]
        self.assertEqual(json.loads(request[3]), {
            'verb': 'revert', 'name': 'fix',
            'options': {'timeout': 30, 'max_pause': 10, 'prod': True}})

    def test_cancel(self):
        self.fill()
        started = self.api.put('operation', fakeapi.operation(self.web, 'apply', self.patch))
        self.open()
        self.page.click(f'[data-key="cancel {started["id"]}"]')
        self.page.click('#dialog-go')
        fakeapi.wait_until(lambda: self.posts(f'/{started["id"]}/cancel$'), 'a request')
        self.page.until('document.getElementById("ended-list").innerText.includes("cancelled")')

    def test_look_again(self):
        self.fill()
        self.open()
        self.open_row(self.web['uuid'])
        self.page.click('[data-key="look"]')
        fakeapi.wait_until(lambda: self.posts('/refresh$'), 'a request')


CONTRAST = '''
const light = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
};
const bad = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!own || !node.checkVisibility() || node.disabled || node.closest('svg, noscript')) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) bad.push(`${node.tagName} ${node.className} ${node.textContent.slice(0, 20)}`
    + ` ${ratio.toFixed(2)}`);
}
return bad;
'''

NAMELESS = '''
const named = (node) => node.getAttribute('aria-label') || node.innerText.trim() ||
  node.labels?.length || document.getElementById(node.getAttribute('aria-labelledby'));
return [...document.querySelectorAll('button, a, input, select, section, dialog, summary')]
  .filter((node) => node.checkVisibility() && !named(node)).map((node) => node.outerHTML);
'''


class Looks(Web):
    def all_states(self):
        self.fill()
        self.api.put('domain', fakeapi.domain('odd-1', patches=[fakeapi.applied(
            self.patch, verified=False, state='tampered', why='foreign bytes')]))
        self.api.put('domain', fakeapi.domain('odd-2', patchable=False, reasons=['no BTF']))
        self.api.put('operation', fakeapi.operation(self.web, 'apply', self.patch))
        started = self.api.put('operation', fakeapi.operation(self.old, 'apply', self.patch))
        self.api.move(started['id'], 'failed', error=fakeapi.problem('BUSY', 'in the way'),
                      result=fakeapi.change_result(
                          started, 'busy', blockers=[fakeapi.blocker(1, 'init', 'schedule')]))
        self.open()
        self.open_row(self.old['uuid'])
        self.page.click('#ended-list summary')
        self.page.until('document.querySelectorAll("#plot .point").length === 1')

    def test_contrast_LIGHT_AND_DARK(self):
        self.all_states()
        grounds = set()
        for scheme in ('light', 'dark'):
            self.page.look(scheme=scheme)
            grounds.add(self.page.ask('getComputedStyle(document.body).backgroundColor'))
            self.assertEqual(self.page.run(CONTRAST), [], scheme)
        self.assertEqual(len(grounds), 2)

    def test_narrow_NOTHING_STICKS_OUT(self):
        self.all_states()
        for width in (320, 390, 620, 800, 1240, 1241):
            self.page.look(width, 800)
            self.assertLessEqual(self.page.ask('document.documentElement.scrollWidth'), width)

    def test_everything_HAS_A_NAME(self):
        self.all_states()
        self.assertEqual(self.page.run(NAMELESS), [])
        self.page.click('[data-key="apply"]:enabled')
        self.assertEqual(self.page.run(NAMELESS), [])
        self.assertEqual(self.page.ask(
            '[...document.querySelectorAll("[id]")].map((node) => node.id)'
            '.filter((id, at, all) => all.indexOf(id) !== at)'), [])

    def test_focus_IS_VISIBLE(self):
        self.all_states()
        self.page.press('TAB')
        for _ in range(25):
            self.page.press('TAB')
            seen = self.page.ask(
                '(() => { const style = getComputedStyle(document.activeElement);'
                'return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 })()')
            self.assertTrue(seen, self.page.focused())


class Sources(unittest.TestCase):
    def test_no_markup_from_text_and_nothing_inline(self):
        for name in sorted(glob.glob(fakeapi.WEB + '/**/*.*', recursive=True)):
            with open(name, encoding='utf-8') as stream:
                text = stream.read()
            if name.endswith('.js'):
                self.assertIsNone(FORBIDDEN.search(text), name)
            if name.endswith('.html'):
                self.assertIsNone(re.search(r'<style|\sstyle=|\son\w+=|<script>', text), name)
            self.assertIsNone(re.search(r'(?:src|href|url\()\s*=?\s*["\']?(?:https?:)?//', text),
                              f'{name}: all of the page is from here')


if __name__ == '__main__':
    taprun.main()
