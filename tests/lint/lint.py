# SPDX-License-Identifier: GPL-2.0-or-later
"""The house rules that a machine can check: lint.py ROOT

One TAP test a rule; each rule is a function from a list of File to a list of problems. In a git
checkout the files are those that git knows or would add; in a source tarball all but build folders.
It reads C by its layout (a function's braces stand in column 0) and does not parse it.
"""

import os
import re
import statistics
import subprocess
import sys

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 100
WARN_FUNCTION_LINES = 60
MAX_COLUMNS = 100
TAB_COLUMNS = 8
SPDX = "SPDX-License-Identifier: GPL-2.0-or-later"

# Which rooms of hv-patcher/ each room may include, itself and wire/ apart.
LEFT_OF_CALL = {"base", "mem", "guest", "patch", "vm", "keeper"}
MAY_INCLUDE = {
    "base": set(),
    "mem": {"base"},
    "guest": {"base", "mem"},
    "patch": {"base", "mem"},
    "vm": {"base", "mem"},
    "keeper": {"base", "vm"},
    "call": LEFT_OF_CALL,
    "agent": {"base", "vm"},
    "engine": LEFT_OF_CALL | {"agent", "call"},
    "rehearse": LEFT_OF_CALL | {"agent", "call", "engine"},
    "doctor": LEFT_OF_CALL | {"agent", "call", "engine", "rehearse"},
    "document": LEFT_OF_CALL | {"agent", "call", "engine"},
    "follow": {"base", "patch", "vm"},
    # A worker, as whoever starts one sees it.
    "errand": {"base", "vm"},
    "cli": LEFT_OF_CALL | {"agent", "call", "document", "engine", "rehearse", "doctor", "follow",
                            "errand"},
    # One operation in a process of its own, as the command line runs it.
    "worker": LEFT_OF_CALL | {"agent", "call", "document", "engine", "errand"},
    # The core leaves guests to its workers.
    "daemon": {"base", "mem", "patch", "vm", "keeper", "agent", "engine", "follow", "errand"},
    # Unprivileged, and a stranger to all but the daemon's D-Bus.
    "apid": {"base"},
}
# They run elsewhere and share only message layouts with the host side.
APART = {"guest-agent", "qemu-plugin"}


class File:
    """A text file: its path below the root, its lines, and its code without comments."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.lines = text.split("\n")
        if self.lines and self.lines[-1] == "":
            self.lines.pop()

    @property
    def is_c(self):
        return self.path.endswith((".c", ".h"))

    @property
    def is_code(self):
        name = os.path.basename(self.path)
        return (self.is_c or name.endswith((".py", ".js", ".css"))
                or name in ("meson.build", "Kbuild", "Makefile")
                or name == "meson_options.txt" or self.text.startswith("#!"))

    @property
    def code_lines(self):
        """The lines of a C file with comments and literals blanked out."""
        return blank_comments(self.text).split("\n")


COMMENT_OR_LITERAL = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def blank_comments(text):
    return COMMENT_OR_LITERAL.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def functions_of(file):
    """Yields (name, is static, line of the name, line count) of each function's definition."""
    lines = file.code_lines
    start = None
    for index, line in enumerate(lines):
        if line.rstrip() == "{":
            start = index
        elif line.rstrip() == "}" and start is not None:
            first = start
            while first > 0 and re.match(r"[\w\s].*[^;}:]\s*$", lines[first - 1]):
                first -= 1
            signature = " ".join(lines[first:start])
            name = function_name(signature)
            if name:
                is_static = re.search(r"\bstatic\b", signature) is not None
                yield name, is_static, first + 1, index - start + 1
            start = None


def function_name(signature):
    """The first name before a parenthesis that is no attribute macro."""
    depth = 0
    for match in re.finditer(r"(\w+)\s*\(|[()]", signature):
        if depth == 0 and match.group(1) and not re.match(r"__|[A-Z0-9_]+$", match.group(1)):
            return match.group(1)
        depth += 1 if match.group().endswith("(") else -1
    return None


def room_of(path):
    """The room of a file of hv-patcher/, None elsewhere."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "hv-patcher" else None


def check_include(path, included):
    """Why a file may not include "included", None if it may."""
    target, slash, _ = included.partition("/")
    room = room_of(path)
    if path.split("/")[0] in APART:
        return None if not slash or target == "wire" else "only wire/ may be included here"
    if room is None:
        return None
    if not slash or target not in MAY_INCLUDE and target != "wire":
        return "includes are written \"room/file.h\""
    if target in (room, "wire") or target in MAY_INCLUDE.get(room, set()):
        return None
    return f"{room}/ may not include {target}/"


def rule_include_direction(files):
    problems = []
    for file in files:
        for number, line in enumerate(file.lines if file.is_c else [], 1):
            match = re.match(r'\s*#\s*include\s*"([^"]*)"', line)
            why = match and check_include(file.path, match.group(1))
            if why:
                problems.append(f"{file.path}:{number}: {match.group(1)}: {why}")
    return problems


def rule_function_prefix(files):
    problems = []
    for file in files:
        room = room_of(file.path)
        stem = os.path.basename(file.path)[:-2].replace("-", "_")
        if room is None or not file.path.endswith(".c") or stem == "main":
            continue
        prefixes = [f"hvp_{stem}"] + (["hvp_cli"] if room == "cli" else [])
        for name, is_static, number, _ in functions_of(file):
            if not is_static and not any(
                    name == prefix or name.startswith(prefix + "_") for prefix in prefixes):
                problems.append(f"{file.path}:{number}: {name} does not begin with {prefixes[0]}_")
    return problems


def function_lengths(files):
    return [(length, file.path, number, name) for file in files if file.path.endswith(".c")
            for name, _, number, length in functions_of(file)]


def rule_function_length(files):
    return [f"{path}:{number}: {name} has {length} lines, at most {MAX_FUNCTION_LINES}"
            for length, path, number, name in function_lengths(files)
            if length > MAX_FUNCTION_LINES]


def rule_file_length(files):
    return [f"{file.path}: {len(file.lines)} lines, at most {MAX_FILE_LINES}"
            for file in files if file.is_code and len(file.lines) > MAX_FILE_LINES]


def rule_spdx(files):
    return [f"{file.path}:1: no \"{SPDX}\"" for file in files
            if file.is_code and not any(SPDX in line for line in file.lines[:2])]


def check_indent(file, line):
    indent = re.match(r"[ \t]*", line).group()
    if line != line.rstrip():
        return "ends in a blank"
    if file.is_c and not re.fullmatch(r"\t* {0,7}", indent):
        return "is indented by a mix of tabs and spaces"
    if file.path.endswith((".py", "meson.build")) and "\t" in indent:
        return "is indented by a tab"
    if re.match(r"\t* +\t", indent):
        return "has a tab behind a space"
    return None


def rule_whitespace(files):
    problems = []
    for file in files:
        for number, line in enumerate(file.lines if file.is_code else [], 1):
            why = check_indent(file, line)
            if why:
                problems.append(f"{file.path}:{number}: {why}")
        if file.is_code and not file.text.endswith("\n"):
            problems.append(f"{file.path}: does not end in a newline")
    return problems


def rule_columns(files):
    return [f"{file.path}:{number}: {columns} columns, at most {MAX_COLUMNS}"
            for file in files if file.is_code
            for number, line in enumerate(file.lines, 1)
            if (columns := len(line.expandtabs(TAB_COLUMNS))) > MAX_COLUMNS]


def rule_no_goto(files):
    word = re.compile(r"\bgoto\b")
    return [f"{file.path}:{number}: goto" for file in files if file.is_c
            for number, line in enumerate(file.code_lines, 1) if word.search(line)]


def rule_todo_has_issue(files):
    word = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")
    issue = re.compile(r"#\d+|issue \d+")
    return [f"{file.path}:{number}: work left to do without an issue's number"
            for file in files if file.is_code
            for number, line in enumerate(file.lines, 1)
            if word.search(line) and not issue.search(line)]


def rule_no_machine_path(files):
    path = re.compile(r"(?<![\w.~$}*-])/(?:work|tmp/bash[^/ ]*)/")
    return [f"{file.path}:{number}: a path of the machine that it was written on"
            for file in files for number, line in enumerate(file.lines, 1) if path.search(line)]


def rule_include_guard(files):
    guard = re.compile(r"^#pragma once$|^#ifndef (\w+)\n#define \1$", re.MULTILINE)
    return [f"{file.path}: no #pragma once" for file in files
            if file.path.endswith(".h") and not guard.search(file.text)]


RULES = [
    rule_include_direction,
    rule_function_prefix,
    rule_function_length,
    rule_file_length,
    rule_spdx,
    rule_whitespace,
    rule_columns,
    rule_no_goto,
    rule_todo_has_issue,
    rule_no_machine_path,
    rule_include_guard,
]


def git_paths(root):
    """What git knows below root, or None if root is not the top of a checkout."""
    git = ["git", "-C", root]
    try:
        top = subprocess.run(git + ["rev-parse", "--show-toplevel"], capture_output=True,
                             text=True, check=True).stdout.strip()
        if os.path.realpath(top) != os.path.realpath(root):
            return None
        listing = subprocess.run(
            git + ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return [path for path in listing.split("\0") if path]


def walked_paths(root):
    paths = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")
                      and not os.path.exists(os.path.join(folder, name, "meson-private"))]
        paths += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return paths


def read_tree(root):
    """All text files below root."""
    files = []
    paths = git_paths(root)
    for path in sorted(set(walked_paths(root) if paths is None else paths)):
        full = os.path.join(root, path)
        if os.path.islink(full) or not os.path.isfile(full):
            continue
        with open(full, "rb") as stream:
            contents = stream.read()
        if b"\0" not in contents:
            files.append(File(path, contents.decode("utf-8", "replace")))
    return files


def report_lengths(files):
    lengths = function_lengths(files)
    if not lengths:
        return
    median = statistics.median(length for length, *_ in lengths)
    print(f"# {len(lengths)} functions, median {median:g} lines with braces")
    for length, path, number, name in sorted(lengths, reverse=True):
        if WARN_FUNCTION_LINES < length <= MAX_FUNCTION_LINES:
            print(f"# warning: {path}:{number}: {name} has {length} lines")


def main(root):
    files = read_tree(root)
    failed = 0
    print(f"1..{len(RULES) + 1}")
    print(f"{'ok' if any(file.is_c for file in files) else 'not ok'} 1 files-FOUND")
    for number, rule in enumerate(RULES, 2):
        problems = rule(files)
        name = rule.__name__.removeprefix("rule_").replace("_", "-")
        print(f"{'not ok' if problems else 'ok'} {number} {name}")
        for problem in problems:
            print(f"# {problem}")
        failed += bool(problems)
    report_lengths(files)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
