"""The loops that threads run programs by. Compiled like kernels, once for all programs.

What threads share is a record of words, the state:

    TICKET    number of the phase (24 bits), its number of jobs (20), how many of them have been taken (20)
    FRONT     how many the thread that runs the program has taken, from the first one on
    BACK      how many the others have taken, from the last one on
    DONE      how many jobs of the phase are done
    PROGRAM   where the program's record is, and FIRST, the number of the phase's first job
    THREADS   how many threads may take part
    AWAKE     a word for each thread: 0 once it has stopped looking for work

A thread takes a job by adding 1 to the ticket, whatever the others do: one that is busy elsewhere takes fewer. Two
threads work from the two ends towards each other, so each finds in its caches what it did in the phase before: with
weights that is the larger part of the time. All that a job needs is in the state before its phase's ticket is, and
stays until its last job is done.
"""

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minicnn.kernels.compile import WORDS, inlined

from .driver import AWAKE, BACK, DONE, FIRST, FRONT, LINE, PROGRAM, THREADS, TICKET
from .program import ARGUMENTS, CALL, JOB, WORD

BITS = 20
LAST = (1 << BITS) - 1

#: How often a thread that waits for others looks before it sleeps for a moment: some 50 us, so that on a machine with
#: other work a thread that has lost its core gets this one.
LOOKS = 1000
#: Microseconds of that sleep.
SLEEP = 20


@intrinsic
def words_at(typing, address):
    """The words at an address."""

    def code(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(WORDS))

    return WORDS(types.int64), code


@intrinsic
def call(typing, entry, words, first, last):
    """Calls the entry of a kernel, a function of Numba's: its first two arguments are for results and errors."""

    def code(context, builder, sig, args):
        pointer = ir.IntType(8).as_pointer()
        number = ir.IntType(64)
        kind = ir.FunctionType(
            ir.IntType(32), [pointer.as_pointer(), pointer.as_pointer(), number.as_pointer(), number, number]
        )
        function = builder.inttoptr(args[0], kind.as_pointer())
        unused = [cgutils.alloca_once(builder, pointer) for _ in range(2)]
        builder.call(function, [*unused, *args[1:]])
        return context.get_dummy_value()

    integer = types.int64
    return types.void(integer, WORDS, integer, integer), code


@intrinsic
def read(typing, words, index):
    """words[index], and all that was written before it was."""

    def code(context, builder, sig, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(WORDS, types.int64), code


@intrinsic
def write(typing, words, index, value):
    """words[index] = value, after all that was written before."""

    def code(context, builder, sig, args):
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(WORDS, types.int64, types.int64), code


@intrinsic
def add(typing, words, index, value):
    """Adds to words[index], which no other thread can change meanwhile; returns what it was."""

    def code(context, builder, sig, args):
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "acq_rel")

    return types.int64(WORDS, types.int64, types.int64), code


@intrinsic
def pause(typing):
    """Tells the processor that this is a loop that waits."""
    machine = platform.machine().lower()
    x86 = machine in ("x86_64", "amd64", "i386", "i686")
    instruction = "pause" if x86 else "yield" if machine in ("arm64", "aarch64") else ""

    def code(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.InlineAsm(kind, instruction, "~{memory}", side_effect=True), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def sleep(typing):
    """Lets another thread have the core for a moment."""
    name, duration = ("Sleep", 0) if sys.platform == "win32" else ("usleep", SLEEP)

    def code(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [ir.Constant(ir.IntType(32), duration)])
        return context.get_dummy_value()

    return types.void(), code


@inlined
def perform(program, job, thread):
    """The calls of one job, in order: each with its words, moved on to the job's block and the thread's memory."""
    jobs, calls, words = words_at(program[2]), words_at(program[3]), words_at(program[4])
    arguments = words_at(program[5] + thread * (ARGUMENTS * 8))
    at = job * JOB
    block, count = jobs[at + 2], jobs[at + 3]
    for number in range(jobs[at], jobs[at + 1]):
        place = number * CALL
        for n in range(1 if calls[place + 5] else count):
            source = calls[place + 1] * WORD
            for k in range(calls[place + 2]):
                moved = words[source] + (block + n) * words[source + 1]
                arguments[k] = moved + thread * words[source + 2] + n * words[source + 3]
                source += WORD
            call(calls[place], arguments, calls[place + 3], calls[place + 4])


def run(state, program_address, unused):
    """All phases of a program, one after the other, together with the threads that are at work on this state."""
    program = words_at(program_address)
    phases = words_at(program[1])
    for phase in range(program[0]):
        first, count = phases[2 * phase], phases[2 * phase + 1]
        if count == 1:
            perform(program, first, 0)
            continue
        state[PROGRAM], state[FIRST] = program_address, first
        state[FRONT] = state[BACK] = 0
        write(state, DONE, 0)
        number = (state[TICKET] >> (2 * BITS)) + 1
        write(state, TICKET, ((number << BITS) | count) << BITS)
        while add(state, TICKET, 1) & LAST < count:
            perform(program, first + add(state, FRONT, 1), 0)
            add(state, DONE, 1)
        looks = 0
        while read(state, DONE) < count:
            looks += 1
            if looks < LOOKS:
                pause()
            else:
                sleep()


def work(state, thread, patience):
    """Takes part in whatever is run, until there has been nothing to do for `patience` looks."""
    looks = 0
    while looks < patience:
        ticket = read(state, TICKET)
        if thread < state[THREADS] and ticket & LAST < (ticket >> BITS) & LAST:
            ticket = add(state, TICKET, 1)
            if ticket & LAST < (ticket >> BITS) & LAST:
                count = (ticket >> BITS) & LAST
                perform(words_at(state[PROGRAM]), state[FIRST] + count - 1 - add(state, BACK, 1), thread)
                add(state, DONE, 1)
            looks = 0
        else:
            looks += 1
            pause()
    write(state, AWAKE + thread * LINE, 0)
