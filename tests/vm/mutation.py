# SPDX-License-Identifier: GPL-2.0-or-later
"""Breaks a guest's memory dump in many ways and has hvpatch look at each.

    with Guest('6.1', memory=GUEST_MIB) as guest:
        dump_guest(guest, path)
    with Session(path, limits=Limits()) as session:
        session.run(seed=1, first=0, count=300)
        print(session.report())             # outcomes, violations

What is broken is drawn from the seed and the number of the mutation alone, so that each can be
made again of the same dump. Whatever hvpatch reads is an area: page tables, symbols, types, ORC,
tasks, stacks, modules. After each mutation the dump is as it was.
"""

import collections
import dataclasses
import gzip
import json
import os
import pwd
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

from dump import PAGE, Btf, Dump, DumpError
from guest import hvpatch_path

# Enough for a kernel and its initramfs; small dumps are quick to copy.
GUEST_MIB = 128
SYMBOLS_SUFFIX = '.symbols'
MODULES = ('dummy', 'xt_u32')
SLEEPERS = 20
MOST_CHANGES = 8
# In the table of kallsyms' tokens, whose place the kernel does not list; the other tables of
# kallsyms lie around it.
DIGIT_TOKENS = b'0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00'
KALLSYMS_BEFORE, KALLSYMS_BEHIND = 4 << 20, 2 << 20
AWKWARD = (0, 1, 0x7f, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 31, 1 << 32, 1 << 63,
           0x7fffffffffffffff, 0xffffffffffffffff, 0x4141414141414141, 0xffffffff80000000,
           0xffff888000000000, 0xfffffffffffff000, 0xdead000000000100)
# What a command that only looks may end with (hvpatch(1)); 2 and 6 would be lies.
STATUSES = (0, 1, 3, 4, 5, 7)
TASKS, INFO = ('tasks', '--stacks'), ('info',)
KILL_SECONDS = 30
# A host that is busy or stands still makes one run slow; one that hangs is slow each time. Pauses
# before a slow run is repeated.
SLOW_PAUSES = (1, 5, 20)


@dataclasses.dataclass
class Limits:
    """What one run may cost at most."""
    seconds: float = 2.0
    mib: int = 512


@dataclasses.dataclass
class Area:
    """Part of the dump that hvpatch reads: pieces of the file, and words that lead further."""
    pieces: list        # (offset, bytes)
    words: list         # offsets of 8 bytes: pointers, counts


@dataclasses.dataclass
class Outcome:
    """One run of hvpatch."""
    status: int
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float
    mib: float


def dump_guest(guest, path):
    """Gives @guest something to show and dumps it to @path, and its symbols beside it."""
    guest.check('modprobe -a ' + ' '.join(MODULES))
    guest.check(f'hvp_sleepers {SLEEPERS} read > /tmp/sleepers 2>&1 &')
    guest.wait_for('grep -q ready /tmp/sleepers')
    guest.check("cut -d ' ' -f 1,3 /proc/kallsyms | gzip > /tmp/symbols.gz", timeout=120)
    with open(path + SYMBOLS_SUFFIX, 'wb') as stream:
        stream.write(gzip.decompress(guest.get('/tmp/symbols.gz')))
    guest.qmp.execute('dump-guest-memory', timeout=300, paging=False, protocol='file:' + path)


def load_symbols(path):
    """name -> address; of several of a name the first."""
    symbols = {}
    with open(path + SYMBOLS_SUFFIX) as stream:
        for line in stream:
            address, name = line.split()[:2]
            symbols.setdefault(name, int(address, 16))
    return symbols


class Map:
    """The areas of a sound dump."""

    def __init__(self, dump):
        self._dump = dump
        self._symbols = dump.symbols
        self._types = Btf(dump.read(*self._between('__start_BTF', '__stop_BTF')))
        self._offsets = {name: self._types.offset('task_struct', name)
                         for name in ('tasks', 'thread_node', 'signal', 'stack', 'thread.sp', 'pid',
                                      'comm', 'flags', 'on_cpu', '__state')}
        self._tasks = self._all_tasks()
        self.areas = {
            'headers': Area([(0, dump.memory_start)], []),
            'identity': self._area(('linux_banner', 256), self._symbols_range('notes')),
            'kallsyms': self._kallsyms(),
            'btf': self._area(self._between('__start_BTF', '__stop_BTF')),
            'orc-addresses': self._area(self._symbols_range('orc_unwind_ip')),
            'orc-entries': self._area(self._symbols_range('orc_unwind')),
            'tasks': self._task_area(),
            'signals': self._signal_area(),
            'stacks': self._stack_area(),
            'modules': self._module_area(),
            'cpus': self._cpu_area(),
            'idt': self._area(('idt_table', PAGE)),
        }
        # All that was walked through on the way to the others.
        pages = sorted(dump.table_pages)
        self.areas['page-tables'] = Area(
            [(page, PAGE) for page in pages],
            [page + i for page in pages for i in range(0, PAGE, 8) if dump.word(page + i)])
        self.areas['anywhere'] = Area([(offset, length) for _, length, offset in dump.segments], [])

    def _between(self, start, end):
        return self._symbols[start], self._symbols[end] - self._symbols[start]

    def _symbols_range(self, name):
        return self._between(f'__start_{name}', f'__stop_{name}')

    def _area(self, *ranges, words=()):
        """Of (symbol or address, bytes); @words are addresses."""
        pieces = []
        for start, length in ranges:
            pieces += self._dump.pages(self._symbols.get(start, start), length)
        return Area(pieces, [self._dump.locate(word) for word in words])

    def _kallsyms(self):
        start, end = self._symbols['_text'], self._symbols['_end']
        content = bytearray()
        for address in range(start, end, PAGE):
            try:
                content += self._dump.read(address, PAGE)
            except DumpError:
                content += bytes(PAGE)
        at = content.find(DIGIT_TOKENS)
        if at < 0:
            raise DumpError('no kallsyms tokens')
        first = max(0, at - KALLSYMS_BEFORE)
        return self._area((start + first, min(at + KALLSYMS_BEHIND, end - start) - first))

    def _all_tasks(self):
        init = self._symbols['init_task']
        head = self._types.offset('signal_struct', 'thread_head')
        tasks = [init]
        for node in self._dump.follow(init + self._offsets['tasks']):
            leader = node - self._offsets['tasks']
            signals = self._dump.read_word(leader + self._offsets['signal'])
            tasks += [thread - self._offsets['thread_node']
                      for thread in self._dump.follow(signals + head)]
        return tasks

    def _task_area(self):
        size = self._types.size('task_struct')
        names = ('tasks', 'thread_node', 'signal', 'stack', 'thread.sp')
        words = [task + self._offsets[name] for task in self._tasks for name in self._offsets]
        words += [task + self._offsets[name] + 8 for task in self._tasks for name in names[:2]]
        return self._area(*((task, size) for task in self._tasks), words=words)

    def _signal_area(self):
        head = self._types.offset('signal_struct', 'thread_head')
        heads = [self._dump.read_word(task + self._offsets['signal']) + head
                 for task in self._tasks]
        return self._area(*((place, 16) for place in heads), words=heads)

    def _stack_area(self):
        end = '__end_init_stack' if '__end_init_stack' in self._symbols else '__end_init_task'
        _, stack_bytes = self._between('init_stack', end)
        ranges, words = [], []
        for task in self._tasks:
            sp = self._dump.read_word(task + self._offsets['thread.sp'])
            top = self._dump.read_word(task + self._offsets['stack']) + stack_bytes
            if 0 < top - sp <= stack_bytes:
                ranges.append((sp, top - sp))
                words += range(sp, top, 8)
        return self._area(*ranges, words=words)

    def _module_area(self):
        """Each struct module, its symbol table's header, its ORC tables."""
        offset = {name: self._types.offset('module', name)
                  for name in ('list', 'kallsyms', 'arch.num_orcs', 'arch.orc_unwind_ip',
                               'arch.orc_unwind')}
        size = self._types.size('module')
        ranges = [(self._symbols['modules'], 16)]
        words = [self._symbols['modules'], self._symbols['modules'] + 8]
        for node in self._dump.follow(self._symbols['modules']):
            module = node - offset['list']
            table = self._dump.read_word(module + offset['kallsyms'])
            count = self._dump.read_word(module + offset['arch.num_orcs']) & 0xffffffff
            ranges += [(module, size), (table, 32)]
            ranges += [(self._dump.read_word(module + offset[name]), count * 4)
                       for name in ('arch.orc_unwind_ip', 'arch.orc_unwind')]
            ranges.append((self._dump.read_word(table), PAGE))
            words += [module + offset[name] for name in offset] + [node + 8]
            words += range(table, table + 32, 8)
        return self._area(*ranges, words=words)

    def _cpu_area(self):
        names = [name for name in ('nr_cpu_ids', '__per_cpu_offset', '__cpu_possible_mask',
                                   '__cpu_online_mask', 'tasklist_lock', 'text_mutex',
                                   'module_mutex', 'init_stack')
                 if name in self._symbols]
        ranges = [(name, 32) for name in names]
        words = [self._symbols[name] for name in names]
        for cpu in range(2):
            base = self._dump.read_word(self._symbols['__per_cpu_offset'] + cpu * 8)
            ranges.append((self._symbols['runqueues'] + base, self._types.size('rq')))
            words += range(ranges[-1][0], ranges[-1][0] + self._types.size('rq') - 7, 8)
            for name in ('current_task', 'pcpu_hot', 'hardirq_stack_ptr', 'cea_exception_stacks'):
                if name in self._symbols:
                    ranges.append((self._symbols[name] + base, 32))
                    words.append(self._symbols[name] + base)
        return self._area(*ranges, words=words)


class Mutator:
    """Draws changes of a dump, makes them, takes them back."""

    def __init__(self, dump, areas):
        self._dump = dump
        self._areas = areas
        self._made = []     # (offset, bytes before)

    def make(self, rand):
        """Returns what was done as [area, operation, file offset, hex before, hex after]."""
        done = []
        for _ in range(rand.choice((1, 1, 1, 2, 3, rand.randint(4, MOST_CHANGES)))):
            name = rand.choice(list(self._areas))
            operation = rand.choice((self._flip, self._flip, self._byte, self._awkward, self._zero,
                                     self._swap_words, self._swap_pages, self._loop, self._copy,
                                     self._fill_page))
            for offset, content in operation(rand, self._areas[name]):
                before = os.pread(self._dump.file, len(content), offset)
                if len(before) != len(content) or before == content:
                    continue
                os.pwrite(self._dump.file, content, offset)
                self._made.append((offset, before))
                done.append([name, operation.__name__[1:], offset, before.hex(), content.hex()])
        return done

    def undo(self):
        while self._made:
            offset, before = self._made.pop()
            os.pwrite(self._dump.file, before, offset)

    @staticmethod
    def _place(rand, area):
        """The offset of a word; every other one leads further, where the area has such."""
        if area.words and rand.random() < 0.5:
            return rand.choice(area.words)
        start, length = rand.choice(area.pieces)
        return start + rand.randrange(max(1, length // 8)) * 8

    def _word(self, offset):
        return os.pread(self._dump.file, 8, offset)

    def _flip(self, rand, area):
        offset = self._place(rand, area)
        value = int.from_bytes(self._word(offset), 'little') ^ 1 << rand.randrange(64)
        return [(offset, struct.pack('<Q', value))]

    def _byte(self, rand, area):
        return [(self._place(rand, area) + rand.randrange(8), bytes([rand.randrange(256)]))]

    def _awkward(self, rand, area):
        value = struct.pack('<Q', rand.choice(AWKWARD))
        return [(self._place(rand, area), value[:rand.choice((1, 2, 4, 8))])]

    def _zero(self, rand, area):
        return [(self._place(rand, area), bytes(rand.choice((1, 4, 8, 16, 64, 256))))]

    def _swap_words(self, rand, area):
        first, second = self._place(rand, area), self._place(rand, area)
        return [(first, self._word(second)), (second, self._word(first))]

    def _page_of(self, rand, area):
        start, _ = rand.choice(area.pieces)
        return start - (start - self._dump.memory_start) % PAGE if start >= PAGE else start

    def _swap_pages(self, rand, area):
        first, second = self._page_of(rand, area), self._page_of(rand, area)
        return [(first, os.pread(self._dump.file, PAGE, second)),
                (second, os.pread(self._dump.file, PAGE, first))]

    def _loop(self, rand, area):
        """A pointer to where another of its kind leads, or back to where it came from."""
        first, second = self._place(rand, area), self._place(rand, area)
        step = rand.choice((0, 0, 8, -8))
        value = int.from_bytes(self._word(second), 'little') + step
        return [(first, struct.pack('<Q', value % (1 << 64)))]

    def _copy(self, rand, area):
        """Bytes of one area in another's place."""
        length = rand.choice((4, 8, 8, 64, 512))
        source = self._place(rand, rand.choice(list(self._areas.values())))
        return [(self._place(rand, area), os.pread(self._dump.file, length, source))]

    def _fill_page(self, rand, area):
        page = rand.choice((bytes(PAGE), b'\xff' * PAGE, rand.randbytes(8) * (PAGE // 8)))
        return [(self._page_of(rand, area), page)]


class Runner:
    """Runs hvpatch on a dump, as nobody where we are root, with a cache folder of its own."""

    def __init__(self, folder, core):
        self._core = core
        self._account = pwd.getpwnam('nobody') if os.geteuid() == 0 else None
        # Whoever nobody is, the build folder may be closed to it.
        self._program = shutil.copy(hvpatch_path(), os.path.join(folder, 'hvpatch'))
        self._warm = os.path.join(folder, 'warm')
        self._cold = os.path.join(folder, 'cold')
        os.chmod(folder, 0o711)
        for path in (self._warm, self._cold):
            self._make(path)

    def _make(self, path):
        os.mkdir(path, 0o700)
        if self._account:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def fill_cache(self):
        """Of the sound dump; what a broken one would add is not kept."""
        outcome = self.run('info', cached=True)
        folder = os.path.join(self._warm, 'hvpatch')
        if outcome.status != 0 or not os.listdir(folder):
            raise DumpError(f'hvpatch cannot read the sound dump: {outcome}')
        os.chmod(folder, 0o500)

    def clear_cold(self):
        shutil.rmtree(self._cold)
        self._make(self._cold)

    def run(self, *arguments, cached):
        """One run; cold ones begin without a cache and may leave one."""
        if not cached:
            self.clear_cold()
        environment = {**os.environ, 'XDG_CACHE_HOME': self._warm if cached else self._cold,
                       'G_DEBUG': 'fatal-criticals', 'UBSAN_OPTIONS': 'halt_on_error=1'}
        identity = {'user': self._account.pw_uid, 'group': self._account.pw_gid,
                    'extra_groups': []} if self._account else {}
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            started = time.monotonic()
            process = subprocess.Popen(
                [self._program, '--core', self._core, '-o', 'json', *arguments],
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment, **identity)
            alarm = threading.Timer(KILL_SECONDS, process.kill)
            alarm.start()
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                # It would make its cache folder anew behind our back.
                process.kill()
                process.wait()
                raise
            finally:
                alarm.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - started
            stdout.seek(0)
            stderr.seek(0)
            return Outcome(process.returncode, stdout.read().decode(errors='replace'),
                           stderr.read().decode(errors='replace'), seconds,
                           usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def parse(outcome):
    """What was said, without what differs from run to run; None where it is no object."""
    try:
        said = json.loads(outcome.stdout)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    return {name: value for name, value in said.items()
            if not name.endswith('_usec') and name != 'cached'}


def violation_of(outcome, limits):
    """Why the run is not to be accepted; None."""
    said = parse(outcome)
    if outcome.status < 0:
        return f'died of {signal.Signals(-outcome.status).name} after {outcome.seconds:.1f} s'
    if outcome.status not in STATUSES:
        return f'exit status {outcome.status}'
    if said is None:
        return 'stdout is not a JSON object'
    if outcome.status != 0 and said.get('code') in (None, 'INTERNAL'):
        return f'failed as {said.get("code")}'
    if outcome.mib > limits.mib:
        return f'{outcome.mib:.0f} MiB'
    if outcome.seconds > limits.seconds:
        return f'{outcome.seconds:.1f} s, {outcome.cpu_seconds:.1f} s of them on a CPU'
    return None


def quick_folder():
    """Where an fsync, which a new cache file costs, takes no time; None: the usual place."""
    path = '/dev/shm'
    return path if os.path.isdir(path) and not os.statvfs(path).f_flag & os.ST_NOEXEC else None


class Session:
    """A dump to be broken over and over. The dump itself stays as it is: a copy is broken."""

    def __init__(self, path, *, limits=None, keep=None):
        self._limits = limits or Limits()
        self._keep = keep           # folder for violations; None: they are only reported
        self._source = path
        self._folder = tempfile.mkdtemp(prefix='hvp-mutate-', dir=quick_folder())
        self._core = shutil.copy(path, os.path.join(self._folder, 'core'))
        os.chmod(self._core, 0o644)
        self.outcomes = collections.Counter()
        self.areas = collections.Counter()
        self.violations = []
        self.slowest = self.largest = 0.0
        self.count = 0
        self._dump = None

    def __enter__(self):
        try:
            self._dump = Dump(self._core, load_symbols(self._source))
            self._mutator = Mutator(self._dump, Map(self._dump).areas)
            self._runner = Runner(self._folder, self._core)
            self._runner.fill_cache()
            self._sound = {command: parse(self._runner.run(*command, cached=True))
                           for command in (TASKS, INFO)}
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        if self._dump:
            self._dump.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, seed, first, count, progress=None):
        for number in range(first, first + count):
            self._run_one(seed, number)
            if progress:
                progress(self)

    def _run_one(self, seed, number):
        changes = self._mutator.make(random.Random(f'{seed} {number}'))
        try:
            for command, cached in ((TASKS, True), (TASKS, False), (INFO, number % 2 == 0)):
                self._judge(seed, number, changes, command, cached)
        finally:
            self._mutator.undo()
        self.areas.update({change[0] for change in changes})
        self.count += 1

    def _judge(self, seed, number, changes, command, cached):
        outcome = self._runner.run(*command, cached=cached)
        for pause in SLOW_PAUSES:
            if outcome.seconds <= self._limits.seconds:
                break
            time.sleep(pause)
            outcome = self._runner.run(*command, cached=cached)
        self.slowest = max(self.slowest, outcome.seconds)
        self.largest = max(self.largest, outcome.mib)
        said = parse(outcome) or {}
        what = said.get('code') if outcome.status else 'the same' \
            if said == self._sound[command] else 'another answer'
        self.outcomes[f'{command[0]}, {"cached" if cached else "not cached"}: '
                      f'{outcome.status} {what}'] += 1
        why = violation_of(outcome, self._limits)
        if why:
            self._save({'why': why, 'seed': seed, 'number': number, 'command': command,
                        'cached': cached, 'changes': changes, 'stdout': outcome.stdout[-4000:],
                        'stderr': outcome.stderr[-4000:]})

    def _save(self, violation):
        self.violations.append(violation)
        if self._keep:
            os.makedirs(self._keep, exist_ok=True)
            name = f'{violation["seed"]}-{violation["number"]}-{len(self.violations)}.json'
            with open(os.path.join(self._keep, name), 'w') as stream:
                json.dump(violation, stream, indent=1)

    def report(self):
        lines = [f'{self.count} mutations; slowest {self.slowest:.2f} s, '
                 f'largest {self.largest:.0f} MiB']
        lines += [f'{count:7} {what}' for what, count in sorted(self.outcomes.items())]
        lines.append('in ' + ', '.join(f'{name} {count}'
                                       for name, count in sorted(self.areas.items())))
        lines += [f'VIOLATION --seed {found["seed"]} --first {found["number"]} --count 1: '
                  f'{" ".join(found["command"])}: {found["why"]}' for found in self.violations]
        lines.append(f'{len(self.violations)} violations')
        return '\n'.join(lines)
