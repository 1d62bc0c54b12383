# SPDX-License-Identifier: GPL-2.0-or-later
"""A headless Chromium with a page in it, as tests want it."""

import os
import shutil
import time

try:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.keys import Keys
    SELENIUM = True
except ImportError:
    SELENIUM = False

BINARY = shutil.which('chromium')
DRIVER = shutil.which('chromedriver')
LOAD_SECONDS = 60


def missing():
    """What a browser here lacks, None if there is one."""
    if BINARY is None:
        return 'no chromium'
    if DRIVER is None:
        return 'no chromedriver (chromium-driver)'
    return None if SELENIUM else 'no python3-selenium'


def start():
    options = Options()
    options.binary_location = BINARY
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    switches = ['--headless=new', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars',
                '--no-first-run', '--disable-background-networking', '--lang=en']
    # Chromium's sandbox does not work for root; the page is our own.
    if os.geteuid() == 0:
        switches.append('--no-sandbox')
    for switch in switches:
        options.add_argument(switch)
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    driver.set_page_load_timeout(LOAD_SECONDS)
    driver.set_script_timeout(LOAD_SECONDS)
    return driver


class Page:
    """What tests do with the page and ask of it."""

    def __init__(self, driver):
        self.driver = driver

    def look(self, width=1440, height=900, scheme='light', mobile=False):
        self.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
            'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': mobile})
        self.driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {
            'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})

    def open(self, url):
        self.driver.get(url)
        self.until("document.getElementById('link').dataset.state !== 'connecting'")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def ask(self, expression, *arguments):
        return self.run(f'return {expression}', *arguments)

    def until(self, expression, *arguments, seconds=15):
        """Waits until a JavaScript expression is true; returns it."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            value = self.ask(expression, *arguments)
            if value:
                return value
            time.sleep(0.03)
        raise AssertionError(f'not within {seconds} s: {expression} {arguments}\n'
                             f'{self.text("body")[:2000]}')

    def text(self, selector):
        return self.ask('[...document.querySelectorAll(arguments[0])]'
                        '.map((node) => node.innerText).join("\\n")', selector)

    def count(self, selector):
        return self.ask('document.querySelectorAll(arguments[0]).length', selector)

    def click(self, selector):
        self.until('document.querySelector(arguments[0])', selector)
        self.run('document.querySelector(arguments[0]).click()', selector)

    def press(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(getattr(Keys, key, key))

    def press_shift_tab(self):
        self.driver.switch_to.active_element.send_keys(Keys.SHIFT, Keys.TAB)

    def focused(self):
        """What a person would call the element that has the focus."""
        return self.ask('document.activeElement.getAttribute("aria-label") || '
                        'document.activeElement.innerText || document.activeElement.name || '
                        'document.activeElement.id || document.activeElement.tagName')

    def tab_to(self, words, most=60):
        """Presses Tab until the focus is on something called so."""
        for _ in range(most):
            if words == self.focused():
                return
            self.press('TAB')
        raise AssertionError(f"{most} presses of Tab do not lead to {words!r}")

    def complaints(self):
        """What the console has that is not just the status of an answer."""
        return [entry['message'] for entry in self.driver.get_log('browser')
                if entry['source'] != 'network']

    def quit(self):
        try:
            self.driver.quit()
        except WebDriverException:
            pass
