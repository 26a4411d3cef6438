"""All benchmarks, one after the other, and what they add up to: benchmarks/RESULTS.md, RESULTS.json and two plots.

    python -m benchmarks                    # under ten minutes on a quiet machine with two cores
    python -m benchmarks --quick --output /tmp/look

LD_PRELOAD with tcmalloc, jemalloc or mimalloc gives PyTorch (and minicnn) a faster malloc; the results then say so.
"""

import importlib
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started by its path instead of with -m
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import plots, targets
from benchmarks.harness import Options, Team, describe, machine, options_of, parser, write_json

NAMES = ("training", "evaluation", "scaling", "kernels", "startup", "others", "accuracy")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, Options(rounds=5, compile=False, data="data"))
    here = Path(__file__).parent
    arguments.add_argument("--output", type=Path, default=here, help="folder of the results")
    arguments.add_argument(
        "--only",
        nargs="+",
        choices=NAMES,
        default=NAMES,
        metavar="NAME",
        help="some of the benchmarks",
    )
    chosen = arguments.parse_args(argv)
    team = Team(chosen.quick)
    start = time.perf_counter()
    where = machine(team)
    results, sections = {}, []
    for name in chosen.only:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        options = options_of(chosen, benchmark.DEFAULTS)
        results[name] = benchmark.measure(team, options)
        command = f"`python -m benchmarks.{name}`"
        sections.append(f"## {benchmark.TITLE}\n\n{benchmark.report(results[name])}\n\n{command}")
    minutes = (time.perf_counter() - start) / 60
    chosen.output.mkdir(parents=True, exist_ok=True)
    pictures = "\n\n".join(f"![{p.stem}]({p.name})" for p in plots.draw(results, chosen.output))
    text = [
        "# Results",
        f"Written by `python -m benchmarks`, {datetime.now(UTC):%Y-%m-%d}, in {minutes:.1f} minutes.",
        describe(where),
        "Two threads each unless it says otherwise. PyTorch is eager, as everybody writes it (NCHW, SGD); tuned: "
        "`channels_last` and `SGD(fused=True)`. All have their data in memory and take the same batches; before "
        "anything is timed, their losses have to agree.",
        f"## To reach\n\n{targets.report(results)}",
        pictures,
        *sections,
    ]
    if chosen.quick:
        text.insert(1, "**A quick look: these figures mean nothing.**")
    (chosen.output / "RESULTS.md").write_text(
        "\n\n".join(filter(None, text)) + "\n", encoding="utf-8"
    )
    write_json(chosen.output / "RESULTS.json", {"machine": where, "minutes": minutes, **results})
    print(f"{chosen.output / 'RESULTS.md'}, after {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
