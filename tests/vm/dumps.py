# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of guests' memory that drgn can read, and drgn's stacks of them.

drgn finds the kernel in a dump of QEMU's only by a note that the guest's kernel hands over through
the device vmcoreinfo, and needs the kernel's debug symbols: Debian's linux-image-RELEASE-dbg, of
which vmlinux alone is kept, beside the kernel (scripts/guest path RELEASE).
"""

import glob
import json
import os
import re
import struct
import subprocess
import tempfile

from guest import Guest, GuestError, hvpatch_path, script

# Debian's modules for Python belong to its own interpreter.
PYTHON = '/usr/bin/python3'
KERNEL_START = 0xffffffff80000000
DUMP_SECONDS = 600

# Elf64_Phdr: type, flags, offset, virtual and physical address, size in the file and in memory.
SEGMENT = struct.Struct('<IIQQQQQQ')
PT_LOAD, PT_NOTE = 1, 4
NT_PRSTATUS = 1
PRSTATUS_PID = 32
PAGE_BYTES = 4096

# Prints {"load_sec", "sec", "tasks": {pid: [[pc, name, interrupted], ...] or "why not"}}.
DRGN = '''
import json, sys, time, drgn
from drgn.helpers.linux.pid import for_each_task
program = drgn.Program()
start = time.monotonic()
program.set_core_dump(sys.argv[1])
program.load_debug_info([sys.argv[2]])
loaded = time.monotonic()
tasks = {}
for task in for_each_task(program):
    try:
        trace = program.stack_trace(task)
    except ValueError as error:
        trace = str(error)
    tasks[task.pid.value_()] = trace
done = time.monotonic()

def frames(trace):
    if isinstance(trace, str):
        return trace
    told = []
    for frame in trace:
        try:
            if not frame.is_inline:
                told.append((frame.pc, frame.name or '', frame.interrupted))
        except LookupError:
            told.append((0, 'no pc', False))
    return told

json.dump({'load_sec': loaded - start, 'sec': done - loaded,
           'tasks': {pid: frames(trace) for pid, trace in tasks.items()}}, sys.stdout)
'''


def have_drgn():
    return os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, '-c', 'import drgn'], capture_output=True, check=False).returncode == 0


def vmlinux_path(release):
    return os.path.join(script('path', release), 'vmlinux')


def fetch_vmlinux(release):
    """Downloads the debug symbols (some 860 MB) once; the path of vmlinux with them."""
    path = vmlinux_path(release)
    if os.path.exists(path):
        return path
    script('fetch', release)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix='.fetch-') as folder:
        subprocess.run(['apt-get', 'download', '-q', '-o', 'APT::Sandbox::User=root',
                        f'linux-image-{release}-dbg'], cwd=folder, check=True)
        package, = glob.glob(os.path.join(folder, '*.deb'))
        archive = subprocess.Popen(['dpkg-deb', '--fsys-tarfile', package],
                                   stdout=subprocess.PIPE)
        subprocess.run(['tar', '-x', '-C', folder, f'./usr/lib/debug/boot/vmlinux-{release}'],
                       stdin=archive.stdout, check=True)
        archive.stdout.close()
        if archive.wait() != 0:
            raise GuestError(f'{package}: cannot be unpacked')
        os.rename(os.path.join(folder, f'usr/lib/debug/boot/vmlinux-{release}'), path)
    return path


def boot(kernel, tasks):
    """A guest with room for that many tasks, which can be dumped for drgn; not entered yet."""
    return Guest(kernel, memory=512 + tasks // 4, qemu_args=['-device', 'vmcoreinfo'])


def dump(guest, path):
    """Writes a dump that drgn can read to a file."""
    pattern = os.path.join(script('path', guest.release), 'image', 'lib', 'modules', '*', 'kernel',
                           'drivers', 'firmware', 'qemu_fw_cfg.ko*')
    packed, = glob.glob(pattern)
    unpack = {'.ko': ['cat'], '.xz': ['xz', '-dc'], '.zst': ['zstd', '-dc']}
    module = subprocess.run([*unpack[os.path.splitext(packed)[1]], packed], capture_output=True,
                            check=True).stdout
    guest.put('/tmp/qemu_fw_cfg.ko', module)
    guest.check('[ -e /sys/firmware/qemu_fw_cfg ] || insmod /tmp/qemu_fw_cfg.ko')
    guest.qmp.execute('dump-guest-memory', timeout=DUMP_SECONDS, paging=False,
                      protocol=f'file:{path}')
    info = subprocess.run([hvpatch_path(), '--core', path, '-o', 'json', 'info'],
                          capture_output=True, text=True, check=True)
    complete(path, [vcpu['pid'] for vcpu in json.loads(info.stdout)['vcpus']])


def read_notes(core, note):
    """[(name, type, where its content is in the file, content)] of a PT_NOTE segment."""
    core.seek(note[2])
    notes, found, at = core.read(note[5]), [], 0
    while at + 12 <= len(notes):
        name_bytes, content_bytes, kind = struct.unpack_from('<III', notes, at)
        start = at + 12 + (name_bytes + 3 & ~3)
        name = notes[at + 12:at + 12 + name_bytes].rstrip(b'\0').decode()
        found.append((name, kind, note[2] + start, notes[start:start + content_bytes]))
        at = start + (content_bytes + 3 & ~3)
    return found


def page_table_segment(segments, facts):
    """Where the kernel's top page table lies; in the file, virtual and physical."""
    virtual = int(re.search(rb'SYMBOL\(swapper_pg_dir\)=([0-9a-f]+)', facts).group(1), 16)
    physical = virtual - KERNEL_START + int(re.search(rb'NUMBER\(phys_base\)=(-?\d+)',
                                                      facts).group(1))
    for segment in segments:
        if segment[0] == PT_LOAD and 0 <= physical - segment[4] < segment[5]:
            return SEGMENT.pack(PT_LOAD, 4, segment[2] + physical - segment[4], virtual, physical,
                                PAGE_BYTES, PAGE_BYTES, 0)
    raise GuestError('the dump has no page tables')


def complete(path, pids):
    """Adds to a dump what drgn needs and QEMU does not know; for us it stays the same.

    The dump has physical addresses alone: drgn has to be told where the top page table is. It takes
    the registers of a vCPU for those of the task whose pid the vCPU's note has, which is the
    vCPU's number: pids, by vCPU, are those of the tasks that run there.
    """
    with open(path, 'r+b') as core:
        header = bytearray(core.read(64))
        offset, = struct.unpack_from('<Q', header, 32)
        size, count = struct.unpack_from('<HH', header, 54)
        core.seek(offset)
        table = core.read(size * count)
        segments = [SEGMENT.unpack_from(table, index * size) for index in range(count)]
        note, = [segment for segment in segments if segment[0] == PT_NOTE]
        notes = read_notes(core, note)
        facts = [content for name, _, _, content in notes if name == 'VMCOREINFO']
        if not facts:
            raise GuestError(f'{path}: the kernel handed over no note')
        states = [at for name, kind, at, _ in notes if name == 'CORE' and kind == NT_PRSTATUS]
        for at, pid in zip(states, pids, strict=True):
            core.seek(at + PRSTATUS_PID)
            core.write(struct.pack('<I', max(pid, 0)))
        table += page_table_segment(segments, facts[0])
        core.seek(0, os.SEEK_END)
        struct.pack_into('<Q', header, 32, core.tell())
        struct.pack_into('<H', header, 56, count + 1)
        core.write(table)
        core.seek(0)
        core.write(header)


def drgn_view(core, vmlinux):
    """What drgn says of a dump: seconds, and the frames of each pid."""
    result = subprocess.run([PYTHON, '-c', DRGN, core, vmlinux], capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        raise GuestError(f'drgn: {result.stderr.strip()}')
    return json.loads(result.stdout)


def kernel_part(frames):
    """Up to where user mode was left: drgn goes on from there."""
    for index, frame in enumerate(frames):
        if frame[0] < KERNEL_START:
            return frames[:index]
    return frames
