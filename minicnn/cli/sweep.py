"""`minicnn sweep`."""

import argparse
from pathlib import Path

from minicnn.config.settings import load_tree
from minicnn.errors import ConfigError
from minicnn.sweeps.backends import LOCAL
from minicnn.sweeps.space import parse
from minicnn.sweeps.sweep import make_plan, resume_sweep, run_new
from minicnn.training.run_folder import run_name

from .common import INTERRUPTED, Parser

SUMMARY = "train with many settings and seeds, one training per core"
USAGE = (
    "%(prog)s (CONFIG KEY=VALUES ... [--seeds N] [--samples N] [--halving N] | --resume SWEEP) "
    "[--jobs N] [--backend NAME]"
)
DESCRIPTION = """\
Train with all combinations of some values, or with values that are drawn at random, each with the same seeds.
The trainings run at the same time, each with one thread, and have the weights of `minicnn train`, to the bit.

VALUES are a list, in YAML, or a range:
  0.01,0.03,0.1     these
  0..4              0, 1, 2, 3, 4; with --samples, one of them
  0.1..0.9          with --samples: uniform between the two
  log:0.001..0.3    with --samples: its logarithm is uniform
Settings with a single value are set for all runs. training.seed is never drawn: each setting is trained with all.

The new folder runs/<config>-sweep-<time>/ receives sweep.csv, with a row for each run (a failed one says why),
best.yaml, with the settings of the highest mean accuracy, and a picture. If data.validation is set, the accuracy
is that on the validation images.
"""

EXAMPLES = """\
examples:
  minicnn sweep configs/lenet.yaml data.validation=0.1 optimizer.lr=0.01,0.03,0.1 training.seed=0..4
  minicnn sweep configs/lenet.yaml data.validation=0.1 optimizer.lr=log:0.001..0.3 --samples 50 --seeds 3
  minicnn sweep configs/lenet.yaml data.validation=0.1 optimizer.lr=log:0.001..0.3 --samples 27 --halving 3
  minicnn sweep configs/speedrun.yaml --seeds 1000       (how much the seed alone changes)
  minicnn sweep configs/lenet.yaml optimizer.lr=0.01,0.1 --backend dask://scheduler:8786
  minicnn sweep --resume runs/lenet-sweep-20250101-120000
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "words", metavar="CONFIG KEY=VALUES", nargs="*", help="a YAML file, and the settings that vary (see above)"
    )
    parser.add_argument("--seeds", metavar="N", type=int, help="the seeds 0 to N - 1 [training.seed]")
    parser.add_argument("--samples", metavar="N", type=int, help="draw N settings [all combinations]")
    parser.add_argument(
        "--halving",
        metavar="N",
        type=int,
        help="train all settings for few epochs; the best one in N goes on to N times as many, and so on",
    )
    parser.add_argument("--resume", metavar="SWEEP", type=Path, help="run what is missing of a sweep that was stopped")
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="trainings at a time [one for each core; slurm: 16 jobs at a time]"
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        default=LOCAL,
        help="where to train: local, dask://HOST:PORT, ray, ray://HOST:PORT, slurm:PARTITION, or submitit, which is "
        "slurm's way on this machine [local]",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.resume:
        options = (f"--{name}" for name in ("seeds", "samples", "halving") if getattr(arguments, name) is not None)
        given = [*arguments.words, *options]
        if given:
            raise ConfigError(f"--resume: expected no settings, as a sweep goes on with its own, received {given[0]}")
        done = resume_sweep(arguments.resume, arguments.jobs, arguments.backend)
        return 0 if done else INTERRUPTED
    if not arguments.words:
        raise ConfigError("expected CONFIG or --resume SWEEP; see minicnn sweep --help")
    config, *words = arguments.words
    fixed, varied = parse(words)
    if arguments.seeds is not None and arguments.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, received {arguments.seeds}")
    seeds = None if arguments.seeds is None else range(arguments.seeds)
    plan = make_plan(
        run_name(Path(config)), load_tree(config, fixed), varied, seeds, arguments.samples, arguments.halving
    )
    return 0 if run_new(plan, arguments.jobs, arguments.backend)[1] else INTERRUPTED
