# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the functions case_NAME of a test program: one TAP line each."""

import subprocess


class Skip(Exception):
    """The message names what is missing."""


def run_cases(functions, *arguments):
    """FUNCTIONS: a module's names, as of globals(). Returns the exit status."""
    cases = [(name.removeprefix('case_').replace('_', '-'), function)
             for name, function in functions.items() if name.startswith('case_')]
    print(f'1..{len(cases)}')
    failed = 0
    for number, (name, function) in enumerate(cases, 1):
        try:
            function(*arguments)
            print(f'ok {number} {name}', flush=True)
        except Skip as reason:
            print(f'ok {number} {name} # SKIP {reason}', flush=True)
        except (AssertionError, LookupError, OSError, ValueError,
                subprocess.SubprocessError) as error:
            failed += 1
            print(f'not ok {number} {name}', flush=True)
            for line in repr(error).split('\\n'):
                print(f'# {line}', flush=True)
    return 1 if failed else 0
