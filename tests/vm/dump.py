# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's memory dump as tests see it: where in the file its kernel keeps what.

    dump = Dump(path, symbols)              # name -> address, of the guest's own kallsyms
    dump.read(symbols['linux_banner'], 16)
    dump.locate(address)                    # offset in the file
    types = Btf(dump.read(start, length))
    types.offset('task_struct', 'thread.sp')

For sound dumps only: whatever is not as it should be raises DumpError.
"""

import os
import struct

PAGE = 4096
PT_LOAD, PT_NOTE = 1, 4
# struct QEMUCPUState, version 1, in a note of name "QEMU".
QEMU_CR3, QEMU_CR4 = 392 + 24, 392 + 32
CR4_LA57 = 1 << 12
CR3_USER_HALF = 1 << 12
PRESENT, LARGE = 1, 1 << 7
ADDRESS = 0x000ffffffffff000
BANNER = b'Linux version '


class DumpError(Exception):
    """Not the dump of a Linux guest that runs."""


class Dump:
    def __init__(self, path, symbols):
        self.file = os.open(path, os.O_RDWR)
        self.symbols = symbols
        self.table_pages = set()    # file offsets of the page tables that were walked through
        self.segments = []          # (guest-physical start, bytes, file offset)
        self._notes = b''
        self._parse_headers()
        self.memory_start = min(offset for _, _, offset in self.segments)
        self.root, self.levels = self._find_root()

    def close(self):
        os.close(self.file)

    def _parse_headers(self):
        head = os.pread(self.file, 64, 0)
        start, = struct.unpack_from('<Q', head, 32)
        size, count = struct.unpack_from('<HH', head, 54)
        for index in range(count):
            kind, _, offset, _, physical, length = struct.unpack_from(
                '<IIQQQQ', os.pread(self.file, size, start + index * size))
            if kind == PT_LOAD and length:
                self.segments.append((physical, length, offset))
            elif kind == PT_NOTE:
                self._notes = os.pread(self.file, length, offset)

    def _vcpu_state(self):
        at = 0
        while at + 12 <= len(self._notes):
            name_bytes, state_bytes, _ = struct.unpack_from('<III', self._notes, at)
            name = self._notes[at + 12:at + 12 + name_bytes]
            at += 12 + (name_bytes + 3) // 4 * 4
            if name == b'QEMU\0':
                return self._notes[at:at + state_bytes]
            at += (state_bytes + 3) // 4 * 4
        raise DumpError('no vCPU in the dump')

    def _find_root(self):
        state = self._vcpu_state()
        cr3, = struct.unpack_from('<Q', state, QEMU_CR3)
        cr4, = struct.unpack_from('<Q', state, QEMU_CR4)
        self.levels = 5 if cr4 & CR4_LA57 else 4
        # With page-table isolation the user's half lacks the kernel.
        for self.root in (cr3 & ADDRESS, cr3 & ADDRESS & ~CR3_USER_HALF):
            try:
                if self.read(self.symbols['linux_banner'], len(BANNER)) == BANNER:
                    return self.root, self.levels
            except DumpError:
                pass
        raise DumpError('no page tables lead to the kernel')

    def physical(self, gpa):
        """Offset in the file of a guest-physical address."""
        for start, length, offset in self.segments:
            if start <= gpa < start + length:
                return offset + gpa - start
        raise DumpError(f'no memory at physical {gpa:#x}')

    def locate(self, address):
        """Offset in the file of a kernel's virtual address."""
        table = self.root
        for level in range(self.levels, 0, -1):
            shift = 12 + 9 * (level - 1)
            page = self.physical(table)
            self.table_pages.add(page)
            entry = self.word(page + (address >> shift & 511) * 8)
            if not entry & PRESENT:
                break
            if level == 1 or entry & LARGE:
                low = (1 << shift) - 1
                return self.physical((entry & ADDRESS & ~low) | (address & low))
            table = entry & ADDRESS
        raise DumpError(f'{address:#x} is not mapped')

    def word(self, offset):
        return struct.unpack('<Q', os.pread(self.file, 8, offset))[0]

    def pages(self, address, length):
        """(file offset, bytes) of each piece of [address, address + length) that is mapped."""
        end = address + length
        while address < end:
            piece = min(end - address, PAGE - address % PAGE)
            try:
                yield self.locate(address), piece
            except DumpError:
                pass
            address += piece

    def read(self, address, length):
        content = b''.join(os.pread(self.file, piece, offset)
                           for offset, piece in self.pages(address, length))
        if len(content) != length:
            raise DumpError(f'{address:#x} is not mapped')
        return content

    def read_word(self, address):
        return struct.unpack('<Q', self.read(address, 8))[0]

    def follow(self, head, limit=100000):
        """The nodes of a list, without its head."""
        nodes, at = [], self.read_word(head)
        while at != head:
            if len(nodes) == limit:
                raise DumpError(f'the list at {head:#x} does not end')
            nodes.append(at)
            at = self.read_word(at)
        return nodes


class Btf:
    """Where members of structs lie, from the bytes of a kernel's BTF."""

    TAIL = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0),
            15: (0, 12), 17: (4, 0), 19: (0, 12)}
    STRUCTS, MODIFIERS = (4, 5), (8, 9, 10, 11, 18)

    def __init__(self, blob):
        head, type_at, type_bytes, string_at, string_bytes = struct.unpack_from('<IIIII', blob, 4)
        self._types = blob[head + type_at:head + type_at + type_bytes]
        self._strings = blob[head + string_at:head + string_at + string_bytes]
        self._at = [0]
        self._structs = {}
        at = 0
        while at < type_bytes:
            self._at.append(at)
            name, info, _ = struct.unpack_from('<III', self._types, at)
            kind = info >> 24 & 31
            if kind in self.STRUCTS and name:
                self._structs.setdefault(self._string(name), len(self._at) - 1)
            fixed, each = self.TAIL.get(kind, (0, 0))
            at += 12 + fixed + each * (info & 0xffff)

    def _string(self, at):
        return self._strings[at:self._strings.index(b'\0', at)].decode()

    def _type(self, index):
        name, info, size = struct.unpack_from('<III', self._types, self._at[index])
        return name, info >> 24 & 31, info & 0xffff, info >> 31, size

    def _strip(self, index):
        while self._type(index)[1] in self.MODIFIERS:
            index = self._type(index)[4]
        return index

    def _find(self, index, wanted):
        """(byte offset, type) of the member, anonymous structs included; None."""
        index = self._strip(index)
        _, kind, count, has_bits, _ = self._type(index)
        if kind not in self.STRUCTS:
            return None
        for i in range(count):
            name, inner, bit = struct.unpack_from('<III', self._types,
                                                  self._at[index] + 12 + i * 12)
            offset = (bit & 0xffffff if has_bits else bit) // 8
            if self._string(name) == wanted:
                return offset, inner
            found = None if name else self._find(inner, wanted)
            if found:
                return offset + found[0], found[1]
        return None

    def size(self, name):
        return self._type(self._structs[name])[4]

    def offset(self, name, path):
        total, index = 0, self._structs[name]
        for member in path.split('.'):
            found = self._find(index, member)
            if found is None:
                raise DumpError(f'no member {path} in struct {name}')
            total, index = total + found[0], found[1]
        return total
