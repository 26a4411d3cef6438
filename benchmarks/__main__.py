"""All benchmarks, one after the other, and what they add up to: benchmarks/RESULTS.md, RESULTS.json and plots.

    python -m benchmarks                    # under ten minutes on a quiet machine with two cores
    python -m benchmarks --isa avx2         # the same for AVX2; its results go beside the others
    python -m benchmarks --only startup     # this one anew
    python -m benchmarks --only             # none: RESULTS.md from RESULTS.json
    python -m benchmarks --quick            # a look, in a folder for temporary files

What fails is left out, with the reason; RESULTS.json is written after each. LD_PRELOAD with tcmalloc, jemalloc or
mimalloc gives PyTorch (and minicnn) a faster malloc; the results then say so.
"""

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started by its path instead of with -m
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from benchmarks.harness import LOOK, Options, Result, Team, load, machine, options_of, parser, today


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, Options(rounds=5, compile=False, data="data"))
    arguments.add_argument("--output", type=Path, help="folder of the results [benchmarks]")
    arguments.add_argument(
        "--only",
        nargs="*",
        choices=results.NAMES,
        default=results.NAMES,
        metavar="NAME",
        help=f"some of {', '.join(results.NAMES)}",
    )
    chosen = arguments.parse_args(argv)
    output = chosen.output or Path(__file__).parent
    if chosen.quick and not chosen.output:
        output = Path(tempfile.mkdtemp(prefix="minicnn-benchmarks-"))
    output.mkdir(parents=True, exist_ok=True)
    everything = results.read(output)
    start, failed = time.perf_counter(), []
    if chosen.only:
        team = Team(chosen.quick, chosen.isa)
        here = results.of_machine(everything, machine(team), chosen.quick)
        for name in chosen.only:
            part = here["parts"][name] = _part(name, team, chosen)
            failed += [name] if "error" in part else []
            results.write(output, everything)
    path = results.write_text(output, everything)
    print(f"{path}, after {(time.perf_counter() - start) / 60:.1f} minutes")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; once more: --only {' '.join(failed)}")


def _part(name: str, team: Team, chosen: argparse.Namespace) -> Result:
    """The result of a benchmark, or why there is none."""
    benchmark = importlib.import_module(f"benchmarks.{name}")
    options = options_of(chosen, benchmark.DEFAULTS)
    if not team.quick:
        time.sleep(LOOK)  # until the threads of the benchmark before have stopped spinning
    start, busy = time.perf_counter(), load(0.05 if team.quick else LOOK)
    facts: Result = {"date": today(), "load_before": busy}
    try:
        result = benchmark.measure(team, options)
        benchmark.report(result)
        part = {**facts, "result": result}
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        part = {**facts, "error": str(error) or type(error).__name__}
    part["minutes"] = (time.perf_counter() - start) / 60
    return part


if __name__ == "__main__":
    main()
