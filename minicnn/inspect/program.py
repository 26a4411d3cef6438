"""A training step as the engine runs it: phases, jobs and calls, with times."""

import copy
from itertools import groupby

import numpy as np

from minicnn.engine.arrays import Shape, address
from minicnn.engine.program import Program
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss, SoftmaxCrossEntropy
from minicnn.training.step import step_work


def step_program(network: Sequential, input_shape: Shape, batch_size: int = 64, loss: Loss | None = None) -> Program:
    """The program of forward, loss and backward for a batch, as `train_step` runs it for arrays; it has been run once,
    on an input of zeros and the label 0."""
    loss, network = loss or SoftmaxCrossEntropy(), copy.deepcopy(network)
    x = np.zeros((batch_size, *input_shape), network.dtype or np.float32)
    labels, outputs = np.zeros(batch_size, np.int64), network.output_shape(input_shape)
    loss.balance(np.arange(outputs[0]), outputs[0])
    target = loss.prepare(labels, (batch_size, *outputs), x.dtype)
    program = step_work(network, loss, (x, labels)).finish()
    program.set("x", address(x))
    loss.set_inputs(program, target, batch_size)
    program.run(batch_size)
    program.calls_see((x, target))
    return program


def program_table(program: Program, times: bool = True) -> str:
    """A line for each phase, and below it for each call.

    `times`: how long a call takes on one thread, for one block, with all that it needs in the cache.
    """
    seconds = program.seconds() if times else [0.0] * len(program.calls)
    lines = []
    for number, (first, count) in enumerate(program.phases.tolist()):
        jobs = program.jobs[first : first + count]
        alike = bool((jobs[:, :2] == jobs[0, :2]).all())
        blocks = jobs[:, 3].sum()
        what = f"{count} jobs of {blocks} blocks" if alike else f"{count} jobs of a call"
        lines.append(f"phase {number + 1}: {what}")
        calls = range(jobs[0, 0], jobs[0, 1] if alike else jobs[-1, 1])
        key = (lambda k: k) if alike else (lambda k: _place(program, k))
        for _, group in groupby(calls, key):
            lines.append(_line(program, list(group), seconds, times))
    return "\n".join(lines)


def _place(program: Program, k: int) -> tuple[str, str]:
    call = program.calls[k]
    return call.label, str(call.kernel)


def _line(program: Program, group: list[int], seconds: list[float], times: bool) -> str:
    """One call, or the jobs that one call on parameters has been cut into."""
    label, kernel = _place(program, group[0])
    tasks = sum(program.calls[k].last - program.calls[k].first for k in group)
    count = f"{tasks} task{'s' * (tasks != 1)}"
    if len(group) > 1:
        count += f", {len(group)} jobs"
    time = f"{1e6 * sum(seconds[k] for k in group):8.1f} us" if times else ""
    return f"  {label.strip():<18} {kernel:<32} {count:<18}{time}".rstrip()
