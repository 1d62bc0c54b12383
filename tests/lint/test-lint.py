# SPDX-License-Identifier: GPL-2.0-or-later
"""The lint's own test: each rule finds what was planted, and nothing in a sound file."""

import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

import lint  # noqa: E402

SPDX_C = f"/* {lint.SPDX} */\n"
SOUND = SPDX_C + """#include "patch/elf.h"

#include <glib.h>

#include "base/error.h"

static const int table[] = {
\t1,
};

static bool helper(int a)
{
\treturn a == table[0]; /* goto is a word here, "and here */
}

G_GNUC_PURE
bool hvp_elf_check(int first_argument,
\t\t   int second)
{
\tconst char *text = "goto // no comment";

\treturn helper(first_argument) && text[second];
}
"""


def run(rule, path, text):
    return rule([lint.File(path, text)])


def body(lines):
    return "{\n" + "\tcall();\n" * (lines - 2) + "}\n"


class RuleTest(unittest.TestCase):
    def refused(self, rule, path, text, word=""):
        problems = run(rule, path, text)
        self.assertTrue(problems, f"{rule.__name__} let it pass: {text[:200]!r}")
        self.assertIn(word, problems[0])
        self.assertIn(path, problems[0])

    def accepted(self, rule, path, text):
        self.assertEqual(run(rule, path, text), [])

    def test_sound_file_ACCEPTED_by_all(self):
        for rule in lint.RULES:
            self.accepted(rule, "hv-patcher/patch/elf.c", SOUND)

    def test_include_direction(self):
        allowed = {"base": "base", "mem": "base mem", "guest": "base mem guest",
                   "patch": "base mem patch", "vm": "base mem vm", "keeper": "base vm keeper",
                   "agent": "base vm agent",
                   "call": "base mem guest patch vm keeper call",
                   "engine": "base mem guest patch vm keeper agent call engine",
                   "cli": "base mem guest patch vm keeper agent call engine cli",
                   "worker": "base mem guest patch vm keeper agent call engine worker",
                   "daemon": "base mem patch vm keeper agent engine daemon",
                   "apid": "base apid"}
        for room, targets in allowed.items():
            for target in allowed:
                text = f'#include "{target}/x.h"\n'
                check = self.accepted if target in targets.split() else self.refused
                with self.subTest(room=room, target=target):
                    check(lint.rule_include_direction, f"hv-patcher/{room}/x.c", text)

    def test_include_form(self):
        rule = lint.rule_include_direction
        self.refused(rule, "hv-patcher/vm/x.c", '#include "x.h"\n', "room/file.h")
        self.refused(rule, "hv-patcher/vm/x.c", ' # include "../base/x.h"\n', "room/file.h")
        self.refused(rule, "hv-patcher/vm/x.h", '#include "other/x.h"\n', "room/file.h")
        self.refused(rule, "guest-agent/x.c", '#include "base/x.h"\n', "only wire/")
        self.refused(rule, "qemu-plugin/x.c", '#include "vm/x.h"\n', "only wire/")
        self.accepted(rule, "qemu-plugin/x.c", '#include "wire/x.h"\n#include "own.h"\n')
        self.accepted(rule, "hv-patcher/vm/x.c", '#include "wire/x.h"\n')
        self.accepted(rule, "tests/unit/vm/x.c", '#include "engine/x.h"\n#include "own.h"\n')

    def test_function_prefix(self):
        rule = lint.rule_function_prefix
        other = "int other(void)\n" + body(3)
        self.refused(rule, "hv-patcher/vm/qmp.c", other, "hvp_qmp_")
        self.refused(rule, "hv-patcher/vm/a-b.c", "int\nhvp_a_c(void)\n" + body(3), "hvp_a_b_")
        self.refused(rule, "hv-patcher/vm/qmp.c", "int hvp_qmpx(void)\n" + body(3))
        self.refused(rule, "hv-patcher/vm/x.c", "int hvp_cli_x(void)\n" + body(3))
        self.accepted(rule, "hv-patcher/vm/a-b.c", "int hvp_a_b_c(void)\n" + body(3))
        self.accepted(rule, "hv-patcher/vm/qmp.c", "static " + other)
        self.accepted(rule, "hv-patcher/cli/show.c", "int hvp_cli_x(void)\n" + body(3))
        self.accepted(rule, "hv-patcher/keeper/main.c", "int main(void)\n" + body(3))
        self.accepted(rule, "tests/unit/vm/test-qmp.c", other)

    def test_function_length(self):
        rule = lint.rule_function_length
        self.refused(rule, "x.c", "int f(void)\n" + body(101), "f has 101 lines")
        self.accepted(rule, "x.c", "int f(void)\n" + body(100))
        self.accepted(rule, "x.c", ("int f(void)\n" + body(60)) * 3)

    def test_file_length(self):
        self.refused(lint.rule_file_length, "x.c", "\n" * 801, "801 lines")
        self.accepted(lint.rule_file_length, "x.c", "\n" * 800)

    def test_spdx(self):
        rule = lint.rule_spdx
        self.refused(rule, "x.c", "int a;\n")
        self.refused(rule, "meson.build", "project()\n")
        self.refused(rule, "scripts/run", "#!/bin/sh\nexit\n")
        self.refused(rule, "x.h", SPDX_C.replace("-or-later", "-only"))
        self.accepted(rule, "scripts/run", f"#!/bin/sh\n# {lint.SPDX}\n")
        self.accepted(rule, "README.md", "text\n")

    def test_whitespace(self):
        rule = lint.rule_whitespace
        self.refused(rule, "x.c", "        spaces();\n", "mix")
        self.refused(rule, "x.c", "\t  \tboth();\n", "mix")
        self.refused(rule, "x.c", "trailing(); \n", "ends in a blank")
        self.refused(rule, "x.c", "no newline", "newline")
        self.refused(rule, "x.py", "if x:\n\tpass\n", "tab")
        self.refused(rule, "meson.build", "\tx = 1\n", "tab")
        self.accepted(rule, "x.c", "\t\t   aligned();\n *\n")

    def test_columns(self):
        rule = lint.rule_columns
        self.refused(rule, "x.c", "x" * 101 + "\n", "101 columns")
        self.refused(rule, "x.c", "\t\t" + "x" * 85 + "\n", "101 columns")
        self.accepted(rule, "x.c", "\t\t" + "x" * 84 + "\n")
        self.accepted(rule, "x.md", "x" * 300 + "\n")

    def test_goto(self):
        self.refused(lint.rule_no_goto, "x.c", "int f(void)\n{\n\tgoto out;\n}\n", ":3:")
        self.accepted(lint.rule_no_goto, "x.c", "/* goto */ // goto\nchar *x = \"goto\";\n")

    def test_todo(self):
        rule = lint.rule_todo_has_issue
        word = "TO" + "DO"
        self.refused(rule, "x.c", f"/* {word}: later */\n")
        self.refused(rule, "x.py", "# FIX" + "ME\n")
        self.accepted(rule, "x.c", f"/* {word} (issue 12): later */\n")
        self.accepted(rule, "x.c", f"/* {word} #12: later */\n")

    def test_machine_path(self):
        rule = lint.rule_no_machine_path
        self.refused(rule, "x.md", "see /wo" + "rk/main/x\n")
        self.refused(rule, "x.c", "\"/tmp/ba" + "sh_jobs.0/x\"\n")
        self.accepted(rule, "x.md", "https://example.org/wo" + "rk/x ../wo" + "rk/x\n")

    def test_include_guard(self):
        rule = lint.rule_include_guard
        self.refused(rule, "x.h", SPDX_C + "int a;\n")
        self.accepted(rule, "x.h", SPDX_C + "#pragma once\n")
        self.accepted(rule, "x.h", "#ifndef X_H\n#define X_H\n#endif\n")
        self.accepted(rule, "x.c", "int a;\n")


class TreeTest(unittest.TestCase):
    def write(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as stream:
            stream.write(text)

    def test_tarball_is_READ_without_build_folders(self):
        with tempfile.TemporaryDirectory() as self.root:
            self.write("hv-patcher/patch/elf.c", SOUND)
            self.write("build/meson-private/x", "")
            self.write("build/x.c", "generated")
            self.write("image.bin", "\0")
            self.assertEqual([file.path for file in lint.read_tree(self.root)],
                             ["hv-patcher/patch/elf.c"])

    def test_functions_are_FOUND(self):
        found = list(lint.functions_of(lint.File("hv-patcher/patch/elf.c", SOUND)))
        self.assertEqual([(name, static, length) for name, static, _, length in found],
                         [("helper", True, 3), ("hvp_elf_check", False, 5)])


if __name__ == "__main__":
    unittest.main()
