"""What the benchmarks share: rivals in processes of their own, alternating rounds, medians.

Each rival has its own process, so that no thread pool meets another, and sleeps while another one
runs. A ratio is taken within a round, because what slows the machine down for a moment slows down
both rivals; what is reported is the median of the rounds with the smallest and the largest.

A benchmark is a module with a TITLE, DEFAULTS of its options, `measure(team, options)`, whose result JSON can hold,
and `report(result)`, which is Markdown.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from benchmarks.isa import ISAS, limits
from benchmarks.rivals import Minicnn, PyTorch
from benchmarks.worker import Here, Worker

PAUSE = 0.2  # seconds until the idle threads of the rival before have stopped spinning
LOOK = 0.5  # seconds in which other programs show themselves
FAST_ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")

Result = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int
    seconds: float | None = None
    """Of each round; None where that is not asked."""
    compile: bool | None = None
    """Whether torch.compile is a rival, too; None where that is not asked."""
    data: str | None = None
    """The folder of MNIST; None where that is not asked."""
    quick: bool = False
    """Only a look at whether everything runs: the figures mean nothing."""


class Team:
    """The workers of a run, each made when it is first asked for, and again if it has ended.

    `environment` is what keeps them, and other processes that are measured, to the instructions of `isa`.
    """

    def __init__(self, quick: bool = False, isa: str = "native") -> None:
        self.quick, self.isa, self.environment = quick, isa, limits(isa)
        self._workers: dict[Any, Worker | Here] = {}

    def worker(self, name: str, make: Callable[[], Any], threads: int) -> Worker | Here:
        key = (name, threads)
        if key not in self._workers or not self._workers[key].alive:
            title = f"{name}, {count(threads, 'thread')}"
            if self.quick and not self.environment:
                self._workers[key] = Here(title, make, threads)
            else:
                self._workers[key] = Worker(title, make, threads, self.environment)
        return self._workers[key]


def rates(workers: Sequence[Worker | Here], task: str, options: Options, *arguments: Any) -> dict[str, list[Any]]:
    """What `task(seconds, *arguments)` of each worker gives, in a list over rounds in which they alternate."""
    measured: dict[str, list[Any]] = {worker.name: [] for worker in workers}
    for number in range(options.rounds):
        for worker in workers if number % 2 == 0 else reversed(workers):
            time.sleep(0 if options.quick else PAUSE)
            measured[worker.name].append(worker.call(task, options.seconds, *arguments))
    return measured


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def spread(values: Sequence[float], digits: str) -> str:
    """Median (min - max), each written with the format `digits`."""
    shown = (format(v, digits) for v in (statistics.median(values), min(values), max(values)))
    return "{} ({} - {})".format(*shown)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def load(seconds: float = LOOK) -> float | None:
    """How many cores are busy while this process sleeps; on a quiet machine less than 0.5.

    Where the system does not count that: how many programs wanted a core in the last minute; None where it does not
    count that either.
    """
    try:
        busy, start = _busy_ticks(), time.perf_counter()
        time.sleep(seconds)
        ticks = _busy_ticks() - busy
        return ticks / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - start)
    except OSError:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _busy_ticks() -> int:
    """Of all cores together, since the start of the machine: all but idle and waiting for disks."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, _, _, *rest = map(int, line.split()[1:9])
    return user + nice + system + sum(rest)


def warning(busy: float | None) -> str:
    """What is to be said of figures that were measured beside other programs; empty on a quiet machine."""
    if (busy or 0) <= 0.5:
        return ""
    return f"**Other programs were running ({busy:.1f} cores busy at the start): do not quote.**"


def allocator() -> str | None:
    """The faster malloc that LD_PRELOAD names, if it does; what is preloaded here, the rivals have, too."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    return next((name for name in FAST_ALLOCATORS if name in preloaded), None)


def write_json(path: Path, result: Any) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


class Benchmark(Protocol):
    """What a benchmark's module has."""

    __doc__: str | None
    TITLE: str
    DEFAULTS: Options

    def measure(self, team: Team, options: Options) -> Result: ...
    def report(self, result: Result) -> str: ...


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def machine(team: Team) -> Result:
    """What the figures are measured on."""
    busy = load(0.05 if team.quick else LOOK)
    return {
        "isa": team.isa,
        "date": today(),
        "minicnn": team.worker("minicnn", Minicnn, 2).call("environment"),
        "PyTorch": team.worker("PyTorch", PyTorch, 2).call("environment"),
        "allocator": allocator(),
        "load_before": busy,
    }


def describe(machine: Result) -> str:
    """The same as text."""
    ours, torch = machine["minicnn"], machine["PyTorch"]
    text = (
        f"{ours['cpu']}, {ours['cores']} cores, {ours['platform']}; --isa {machine['isa']}: minicnn with "
        f"{'AVX-512' if ours['wide'] else 'no AVX-512'}, PyTorch with {torch['capability']}; minicnn "
        f"{ours['minicnn']}, PyTorch {torch['torch']}, Numba {ours['numba']}, "
        f"NumPy {ours['numpy']}, Python {ours['python']}; "
        f"malloc: {machine['allocator'] or 'that of the system, none preloaded'}; {machine['date']}."
    )
    return "\n\n".join(filter(None, [text, warning(machine["load_before"])]))


def parser(description: str | None, defaults: Options) -> argparse.ArgumentParser:
    """A command line for those options that the defaults have."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, help=f"of each measurement [{defaults.rounds}]")
    if defaults.seconds is not None:
        parser.add_argument("--seconds", type=float, help=f"of each round [{defaults.seconds}]")
    if defaults.compile is not None:
        parser.add_argument("--compile", action="store_true", help="torch.compile is a rival, too: a minute more")
    if defaults.data is not None:
        parser.add_argument("--data", help=f"the folder of MNIST, for the record [{defaults.data}]")
    parser.add_argument(
        "--isa",
        choices=ISAS,
        default=ISAS[0],
        help="avx2: all rivals do without newer instructions [native: all of this processor]",
    )
    parser.add_argument("--quick", action="store_true", help="only see whether it runs: the figures mean nothing")
    return parser


def options_of(arguments: argparse.Namespace, defaults: Options) -> Options:
    """What the command line says, else the defaults; ends the program if that makes no sense."""
    if arguments.quick:
        defaults = replace(defaults, rounds=2, seconds=defaults.seconds and 0.01, quick=True)
    given = {key: vars(arguments).get(key) for key in ("rounds", "seconds", "compile", "data")}
    options = replace(defaults, **{key: value for key, value in given.items() if value is not None})
    if options.rounds < 1 or (options.seconds is not None and not options.seconds > 0):
        sys.exit(
            f"expected --rounds of at least 1 and --seconds above 0, received {options.rounds} and {options.seconds}"
        )
    return options


def run(benchmark: Benchmark, argv: Sequence[str] | None = None) -> None:
    """The command of one benchmark."""
    command = parser(benchmark.__doc__, benchmark.DEFAULTS)
    command.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    chosen = command.parse_args(argv)
    options = options_of(chosen, benchmark.DEFAULTS)
    team = Team(options.quick, chosen.isa)
    where = machine(team)
    result = benchmark.measure(team, options)
    print(f"# {benchmark.TITLE}\n\n{describe(where)}\n\n{benchmark.report(result)}")
    if chosen.json:
        write_json(chosen.json, {"machine": where, "result": result})
