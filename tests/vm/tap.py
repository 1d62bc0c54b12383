# SPDX-License-Identifier: GPL-2.0-or-later
"""A small TAP runner for cases that share a booted guest.

    suite = Suite('6.1', '6.12')

    @suite.case('one-function-APPLIED')
    def _(guest):
        ...

    if __name__ == '__main__':
        suite.main()

Each kernel boots once, and once more for each set of options; a case that fails, or says
fresh=True, costs a new guest, so that no case inherits the damage of another one. Cases with
guests of their own come last.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import os
import signal
import sys
import time
import traceback

from channel import PATIENCE, ChannelClosed
from guest import Guest, GuestError, OldCodeRan, assert_invariants, prepare
from qmp import QmpGone


# Emulated guests on a crowded host fail for reasons of their own. Where nobody watches, a case has
# two more tries on other guests; all are printed, and scripts/test names such cases at its end.
TRIES = 3 if os.environ.get('CI') else 1


# For guests that rewrite text that they run (ftrace, their own livepatch core), hvpatch or not:
# where each vCPU has a host thread of its own, QEMU 7.2 now and then runs a stale int3 and
# the guest dies or goes astray; and each piece of text costs a call to every CPU, that is the next
# turn of a thread on a crowded host.
PATCHING_ITSELF = {'thread': 'single'}


class Skip(Exception):
    """Raised by a case that cannot run; the message names what is missing."""


class CaseTimeout(Exception):
    """The case took longer than it may."""


@dataclasses.dataclass
class Case:
    name: str
    function: object
    timeout: float
    kernels: tuple      # None: all of the suite
    fresh: bool         # wants a guest that nobody used, and leaves none behind
    options: dict       # Guest options: a guest that cases with the same ones share
    allow: tuple        # further kernel messages that this case may cause
    guest: bool         # False: called without a guest, once


@contextlib.contextmanager
def alarm(seconds):
    def expire(*_):
        raise CaseTimeout(f'no end after {seconds} s')
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def explain(error):
    """What went wrong first, then where: logs are cut off."""
    for chained in (error, error.__cause__):
        if chained is None:
            continue
        for line in ''.join(traceback.format_exception_only(chained)).splitlines():
            print(f'# {line}')
        for frame in traceback.extract_tb(chained.__traceback__)[2:]:
            print(f'#   {os.path.basename(frame.filename)}:{frame.lineno}: {frame.line}')


class GuestPool:
    """At most one running guest: the shared one of the kernel and options at hand."""

    def __init__(self, guest_class, options):
        self._guest = self._of = None
        self._guest_class = guest_class
        self._options = options

    def shared(self, kernel, options):
        if self._guest and self._of != (kernel, options):
            self.drop()
        if not self._guest:
            self._guest = self._guest_class(kernel, **{**self._options, **options}).__enter__()
            self._of = kernel, options
        return self._guest

    def drop(self):
        if self._guest:
            self._guest.stop()
            self._guest = None


class Suite:
    def __init__(self, *kernels, guest_class=Guest, **options):
        """In continuous integration each case has one of the kernels only, in turn.

        options: of every guest of the suite, see Guest.
        """
        self.kernels = kernels
        self._guest_class = guest_class
        self._options = options
        self._alternate = 'CI' in os.environ
        self.cases = []
        self._pool = GuestPool(guest_class, options)
        self._counts = {'passed': 0, 'failed': 0, 'skipped': 0}

    def case(self, name, *, timeout=240.0, kernels=None, fresh=False, options=None, allow=(),
             guest=True):
        def register(function):
            self.cases.append(Case(name, function, timeout, kernels, fresh, options or {},
                                   tuple(allow), guest))
            return function
        return register

    def main(self):
        options = self._parse()
        plan = [(kernel, case) for kernel, case in self._plan(options.kernel)
                if self._chosen(kernel, case, options.case)]
        if options.list:
            print('\n'.join(self._title(kernel, case) for kernel, case in plan))
            return
        # Meson ends a test that takes too long by SIGTERM: leave no guest and no folder behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self._prepare({kernel for kernel, _ in plan if kernel})
        print(f'1..{len(plan)}', flush=True)
        try:
            for number, (kernel, case) in enumerate(plan, 1):
                self._report(number, kernel, case)
        finally:
            self._pool.drop()
        print('# ' + ', '.join(f'{count} {what}' for what, count in self._counts.items()))
        sys.exit(1 if self._counts['failed'] else 0)

    @staticmethod
    def _prepare(kernels):
        """Downloads and builds before the clocks of the cases start."""
        try:
            for kernel in sorted(kernels):
                prepare(kernel)
        except GuestError as error:
            print('Bail out! ' + ' '.join(str(error).splitlines()))
            sys.exit(1)

    def _parse(self):
        parser = argparse.ArgumentParser()
        parser.add_argument('--kernel', action='append', help='only on this kernel (repeatable); '
                            'also $HVPATCH_VM_KERNELS, separated by blanks')
        parser.add_argument('--list', action='store_true', help='print the names of the cases')
        parser.add_argument('case', nargs='*', help='only cases that match this shell pattern')
        options = parser.parse_args()
        options.kernel = options.kernel or os.environ.get('HVPATCH_VM_KERNELS', '').split()
        return options

    def _plan(self, only):
        plan = [(None, case) for case in self.cases if not case.guest]
        wanted = list(only or self.kernels)
        if not only:
            wanted += [kernel for case in self.cases for kernel in case.kernels or ()]
        for kernel in dict.fromkeys(wanted):
            here = []
            for number, case in enumerate(self.cases):
                allowed = case.kernels or only or self.kernels
                if self._alternate and not only and not case.kernels:
                    allowed = [self.kernels[number % len(self.kernels)]]
                if case.guest and kernel in allowed:
                    here.append((kernel, case))
            # A guest of one case's own costs the others theirs: all those behind the shared one.
            plan += sorted(here, key=lambda item: (item[1].fresh, repr(item[1].options or '')))
        return plan

    def _title(self, kernel, case):
        return f'{kernel}/{case.name}' if kernel else case.name

    def _chosen(self, kernel, case, patterns):
        title = self._title(kernel, case)
        return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns
                                   for name in (title, case.name))

    def _report(self, number, kernel, case):
        started = time.monotonic()
        title = f'{number} - {self._title(kernel, case)}'
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                with alarm(case.timeout * PATIENCE):
                    self._run(kernel, case)
                break
            except Skip as reason:
                self._counts['skipped'] += 1
                print(f'ok {title} # SKIP {reason}', flush=True)
                return
            except Exception as error:  # pylint: disable=broad-except
                final = not tries_left or isinstance(error, OldCodeRan)
                print(f'not ok {title}' if final
                      else f'# failed, tried again on another guest: {title}')
                explain(error)
                sys.stdout.flush()
                self._pool.drop()
                if final:
                    self._counts['failed'] += 1
                    return
        self._counts['passed'] += 1
        print(f'ok {title}\n# {time.monotonic() - started:.2f} s', flush=True)

    def _run(self, kernel, case):
        if not case.guest:
            case.function()
        elif case.fresh:
            self._pool.drop()
            with self._guest_class(kernel, **{**self._options, **case.options}) as guest:
                self._run_in(guest, case)
        else:
            self._run_in(self._pool.shared(kernel, case.options), case)

    @staticmethod
    def _run_in(guest, case):
        try:
            case.function(guest)
            assert_invariants(guest, case.allow)
        except (ChannelClosed, QmpGone) as error:
            raise AssertionError(f'the guest is gone:\n{guest.post_mortem()}') from error
        except AssertionError as error:
            if not guest.epitaph():
                raise
            raise AssertionError(guest.epitaph()) from error
