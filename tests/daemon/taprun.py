# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the unittest cases of a script as TAP, so that each one, and each skip, has its name."""

import fnmatch
import sys
import unittest


class Result(unittest.TestResult):
    def __init__(self, count):
        super().__init__()
        print(f'1..{count}', flush=True)

    def _say(self, test, verdict, more='', lines=''):
        name = test.id().removeprefix('__main__.').replace('.test_', '/').replace('_', '-')
        print(f'{verdict} {self.testsRun} - {name}{more}')
        for line in lines.splitlines():
            print(f'# {line}')
        sys.stdout.flush()

    def addSuccess(self, test):
        self._say(test, 'ok')

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say(test, 'ok', f' # SKIP {reason}')

    def addError(self, test, err):
        super().addError(test, err)
        self._say(test, 'not ok', lines=self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._say(test, 'not ok', lines=self.failures[-1][1])


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def main():
    """Runs the cases of __main__; arguments: shell patterns of their names."""
    cases = list(flatten(unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__'])))
    if len(sys.argv) > 1:
        cases = [case for case in cases if any(fnmatch.fnmatch(case.id(), f'*{pattern}*')
                                               for pattern in sys.argv[1:])]
    result = Result(len(cases))
    unittest.TestSuite(cases).run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
