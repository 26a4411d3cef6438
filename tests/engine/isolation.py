"""What each task of a program writes, found out by running it alone on memory that is full of something else.

What it may write are the arguments for which the docstring of its kernel has a formula: "y[o] = ...", "dy becomes ...".
Memory of the engine is allocated with guard zones around it. A program is examined right after it has run, while the
arrays that it was given still exist: for each call, tasks are run one by one, on numbers that mean nothing, twice. What
has changed is what they write.
"""

import ctypes
import inspect
import re
from contextlib import contextmanager
from functools import cache
from importlib import import_module

import numpy as np
import pytest

from minicnn.engine import arrays, driver
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Input, Rows
from minicnn.kernels import LANES

#: An argument, perhaps with an index, before one of =, +=, -=, (+)=, becomes.
WRITTEN = re.compile(r"\b(\w+)(?:\[(?:[^][]|\[[^][]*\])*\])? (?:becomes|(?:[-+]|\(\+\))?=) ")
GUARD = 2048  # bytes
MOST_TASKS = 6  # of a call that are run: the first ones, the last ones, and some between

#: Inputs that have room for whole blocks.
WHOLE = ["out"]

RUN = Program.run


def _raw(address, size):
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), np.uint8)


class Memory:
    """All arrays that the engine has allocated, each between guard zones."""

    def __init__(self):
        self.arrays = []
        self.raws = []

    def zeros(self, size, dtype):
        whole = size * np.dtype(dtype).itemsize
        raw = arrays.aligned_zeros(whole + 2 * GUARD, np.uint8)
        array = raw[GUARD : GUARD + whole].view(dtype)
        self.arrays.append(array)
        self.raws.append(raw)
        return array

    def parts_with(self, others):
        """[(bytes, those of them that may have any value)] of all arrays, and of others that are none of them."""
        parts = []
        for raw, array in zip(self.raws, self.arrays, strict=True):
            free = np.ones(len(raw), bool)
            if array.dtype.kind != "f":
                free[GUARD : GUARD + array.nbytes] = False
            parts.append((raw, free))
        known = [(raw.ctypes.data, raw.ctypes.data + len(raw)) for raw, _ in parts]
        for other in others:
            if not any(first <= other.ctypes.data < end for first, end in known):
                raw = _raw(other.ctypes.data, other.nbytes)
                parts.append((raw, np.full(len(raw), other.dtype.kind == "f")))
                known.append((raw.ctypes.data, raw.ctypes.data + len(raw)))
        return parts


@contextmanager
def examined(look):
    """Within the block, look(program, count, memory) is called after the first run of each program, to its end."""
    memory, seen = Memory(), set()

    def run(program, count, paused=False):
        RUN(program, count, paused)
        whole = paused or program.pause == len(program.parts)
        if whole and id(program) not in seen:
            seen.add(id(program))
            kept.append(program)
            look(program, count, memory)

    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "run", run)
        for module in ("engine.work", "layers.sequential", "optimizers.optimizer"):
            patch.setattr(f"minicnn.{module}.aligned_zeros", memory.zeros)
        yield kept


def inputs(program):
    """The inputs that are arrays of which each block has its part, by name."""
    found = {
        argument.name: argument
        for call in program.calls
        for argument in call.arguments
        if isinstance(argument, Input) and argument.kind not in "nr" and argument.block_step
    }
    return found


@contextmanager
def guarded_inputs(program, count, memory):
    """Within the block, the program's inputs are copies between guard zones."""
    before, known = {}, len(memory.arrays)
    for name, argument in inputs(program).items():
        address = before[name] = int(program.words[program.places[name][0], 0])
        size = -(-count * argument.block_step // LANES)
        dtype = {"f": "f4", "d": "f8", "b": "u1", "i": "i8"}[argument.kind]
        array = memory.zeros(program.blocks * argument.block_step // np.dtype(dtype).itemsize, dtype)
        array.view(np.uint8)[:size] = _raw(address, size)
        program.set(name, array.ctypes.data)
    try:
        yield
    finally:
        for name, address in before.items():
            program.set(name, address)
        del memory.arrays[known:], memory.raws[known:]


@cache
def names(kernel):
    """The names of the arguments of a kernel, and of those that it writes."""
    module = import_module(kernel.module)
    function = getattr(module, kernel.name)
    if kernel.statics:
        function = function(*kernel.statics)
    found = list(inspect.signature(function).parameters)[1:]
    writes = [name for name in found if name in WRITTEN.findall(function.__doc__ or "")]
    assert writes, f"{kernel}: expected a docstring with a formula of what it writes"
    return found, writes


def places(program, k, number, block, blocks, count):
    """[(first address, end)] of an argument of call k, as each block of a job sees it."""
    call, found = program.calls[k], []
    argument = call.arguments[number]
    word = program.words[program.table[k, 1] + number].tolist()
    for n in range(program.jobs[:, 3].max() if call.joint else blocks):
        if isinstance(argument, Map):
            size = argument.vectors * LANES * argument.dtype.itemsize
        elif isinstance(argument, Rows):
            size = argument.per_block * argument.array.nbytes // len(argument.array)
        elif isinstance(argument, Input):
            images = LANES if argument.name in WHOLE else min(LANES, count - (block + n) * LANES)
            size = argument.block_step * images // LANES
        else:
            size = argument.nbytes
        first = word[0] + (block + n) * word[1] + n * word[3]
        found.append((first, first + size))
    return found


def run_task(program, task):
    """Runs one task of one call, for the blocks of a job, and nothing else."""
    row = program.table[task.k]
    before = row[3:5].copy()
    row[3:5] = task.task, task.task + 1
    job = np.array([[task.k, task.k + 1, task.block, task.blocks]], np.int64)
    kept, address = program._record([[0, 1]], job)
    driver.run(address, 1, program.threads)
    del kept
    row[3:5] = before


def some(first, last):
    numbers = range(first, last)
    if len(numbers) <= MOST_TASKS:
        return numbers
    third = MOST_TASKS // 3
    between = numbers[third : -third : max(1, len(numbers) // third)][:third]
    return [*numbers[:third], *between, *numbers[-third:]]


class Task:
    """One task of call k, and what it writes: {(part, byte there): its values in both rounds}."""

    def __init__(self, k, block, blocks, task):
        self.k, self.block, self.blocks, self.task = k, block, blocks, task
        self.rounds = []  # for each, {part: (bytes, values)}

    def written(self, rounds):
        for part in set().union(*self.rounds):
            found_at = [found[part][0] for found in self.rounds if part in found]
            first, end = min(one[0] for one in found_at), max(one[-1] for one in found_at) + 1
            touched = np.zeros(end - first, bool)
            for one in found_at:
                touched[one - first] = True
            places = first + np.flatnonzero(touched)
            values = []
            for found, content in zip(self.rounds, rounds, strict=True):
                now = content[part][places]
                if part in found:
                    now[np.searchsorted(places, found[part][0])] = found[part][1]
                values.append(now)
            yield part, places, values


def examine(program, count, memory):
    """[(whether its jobs are done in any order, [Task])] for each phase, and the memory that rounds began with.

    Asserts that nothing is written outside of the arguments that a kernel says it writes.
    """
    with guarded_inputs(program, count, memory):
        parts = memory.parts_with(_others(program))
        before = [raw.copy() for raw, _ in parts]
        rounds = [_poisoned(parts, before, seed) for seed in range(2)]
        phases = [_tasks(program, jobs) for jobs in _jobs(program)]
        try:
            for content in rounds:
                for (raw, _), numbers in zip(parts, content, strict=True):
                    raw[...] = numbers
                as_bytes = [numbers.tobytes() for numbers in content]
                for _, tasks in phases:
                    for task in tasks:
                        run_task(program, task)
                        task.rounds.append(_changed_back(parts, content, as_bytes))
        finally:
            for (raw, _), content in zip(parts, before, strict=True):
                raw[...] = content
        for _, tasks in phases:
            for task in tasks:
                _check(program, count, task, parts, rounds)
        for k in range(len(program.calls)):
            _check_apart(program, count, k)
    return phases, rounds


def _others(program):
    """Arrays of its calls, which may or may not be among the memory of the engine."""
    return [
        argument.array if isinstance(argument, Rows) else argument
        for call in program.calls
        for argument in call.arguments
        if isinstance(argument, Rows | np.ndarray)
    ]


def _poisoned(parts, before, seed):
    """The memory with other numbers wherever these may have any value; half of them are negative."""
    rng, found = np.random.default_rng(seed), []
    for (_, free), content in zip(parts, before, strict=True):
        noise = rng.uniform(0.5, 2, -(-len(content) // 4)) * rng.choice([-1.0, 1.0])
        words = (noise * rng.choice([-1.0, 1.0], noise.shape)).astype(np.float32)
        found.append(np.where(free, words.view(np.uint8)[: len(content)], content))
    return found


def _changed_back(parts, content, as_bytes):
    """{part: (bytes that have changed, their values)}; and they are what they were again."""
    found = {}
    for number, ((raw, _), numbers, same) in enumerate(zip(parts, content, as_bytes, strict=True)):
        if raw.tobytes() != same:
            places = _differing(raw, numbers)
            found[number] = places, raw[places]
            raw[places] = numbers[places]
    return found


def _differing(a, b):
    """Which bytes differ; looks at eight at a time first, as nearly all are the same."""
    whole = len(a) // 8 * 8
    words = np.flatnonzero(a[:whole].view(np.uint64) != b[:whole].view(np.uint64))
    places = np.concatenate([(8 * words[:, None] + np.arange(8)).ravel(), np.arange(whole, len(a))])
    return places[a[places] != b[places]]


def _jobs(program):
    return [program.jobs[first : first + jobs] for first, jobs in program.phases.tolist()]


def _tasks(program, jobs):
    """(whether jobs are calls, and not blocks; their tasks: of blocks, those of the first and the last job)"""
    parallel = not (jobs[:, :2] == jobs[0, :2]).all() or len(jobs) == 1 == jobs[0, 1] - jobs[0, 0]
    chosen = {(0, 1)} if parallel else set(map(tuple, jobs[[0, -1], 2:].tolist()))
    return parallel, [
        Task(k, *blocks, task)
        for blocks in sorted(chosen)
        for k in range(jobs[0, 0], jobs[-1, 1])
        for task in some(*program.table[k, 3:5].tolist())
    ]


def _check(program, count, task, parts, rounds):
    kernel = program.calls[task.k].kernel
    found, writes = names(kernel)
    allowed = [
        place for name in writes for place in places(program, task.k, found.index(name), task.block, task.blocks, count)
    ]
    for number, bytes_, _ in task.written(rounds):
        addresses = parts[number][0].ctypes.data + bytes_
        inside = np.zeros(len(addresses), bool)
        for first, end in allowed:
            inside |= (first <= addresses) & (addresses < end)
        assert inside.all(), (
            f"{kernel}, block {task.block}, task {task.task}: writes {np.sum(~inside)} bytes outside of "
            f"{', '.join(writes)}, from {addresses[~inside][0] - allowed[0][0]} on"
        )


def _check_apart(program, count, k):
    """Asserts that no argument that call k writes lies across another one; a map may become another in its place."""
    kernel = program.calls[k].kernel
    found, writes = names(kernel)
    arrays_ = [
        (name, places(program, k, number, 0, 1, count)[0])
        for number, (name, argument) in enumerate(zip(found, program.calls[k].arguments, strict=True))
        if not isinstance(argument, int | float | Input)
    ]
    for name, (first, end) in arrays_:
        for other, (start, stop) in arrays_:
            across = first < stop and start < end and (first, end) != (start, stop)
            assert not (across and name in writes), f"{kernel}: {name} lies across {other}"


def conflicts(tasks, rounds):
    """Pairs of tasks that write different values to the same place."""
    values, owners, found = {}, {}, set()
    for task in tasks:
        for part, places, both in task.written(rounds):
            if part not in values:
                size = len(rounds[0][part])
                values[part] = [np.zeros(size, np.uint8) for _ in rounds]
                owners[part] = np.full(size, None, object)
            taken = owners[part][places]
            old = np.flatnonzero(taken != None)  # noqa: E711 # element by element
            for one, now in zip(values[part], both, strict=True):
                differ = old[one[places[old]] != now[old]]
                found |= {(taken[k].k, taken[k].task, task.k, task.task) for k in differ.tolist()}
                one[places] = now
            owners[part][places] = task
    return sorted(found)


def results(program, count, memory, filler, backwards):
    """What a program leaves in memory, apart from its maps, which are full of `filler` at first, as are guard zones.

    `backwards`: the last job of each phase is done first.
    """
    with guarded_inputs(program, count, memory):
        maps = [a for call in program.calls for a in call.arguments if isinstance(a, Map)]
        arenas = {id(map_.buffer.arena): map_.buffer.arena.array for map_ in maps}
        parts = memory.parts_with(_others(program))
        before = [raw.copy() for raw, _ in parts]
        jobs, setters = program.jobs.copy(), program._setters
        kept = [(m, _cells(m).copy()) for m in maps if m.buffer.first <= 0 and m.buffer.last == np.inf]
        for raw, array in zip(memory.raws, memory.arrays, strict=True):
            ends = raw[:GUARD], raw[GUARD + array.nbytes :]
            for part in ends if array.dtype.kind == "f" else ():
                part[: len(part) // 8 * 8].view(array.dtype)[...] = filler
        for array in arenas.values():
            array[...] = filler
        for map_, content in kept:
            _cells(map_)[...] = content
        if backwards:
            for first, number in program.phases.tolist():
                program.jobs[first : first + number] = jobs[first : first + number][::-1]
        program._setters = []  # what was drawn at random stays
        try:
            RUN(program, count)
            if program.pause != len(program.parts):
                RUN(program, count, paused=True)
            return [a.copy() for a in memory.arrays if not any(a is b for b in arenas.values())]
        finally:
            program.jobs[...], program._setters = jobs, setters
            for (raw, _), content in zip(parts, before, strict=True):
                raw[...] = content


def _cells(map_):
    """The memory of a map, in all copies of its arena."""
    buffer = map_.buffer
    return buffer.arena.array.reshape(-1, buffer.arena.size)[:, buffer.offset :][:, : buffer.size]
