"""The command about the machine: doctor."""

import argparse

from .common import Commands, add_command

DOCTOR_HELP = """\
Say what a report about speed needs: processor, vector instructions, threads, versions, cache of compiled
kernels, and how fast a self-test of two seconds is; with advice where something slows training down.
"""

DOCTOR_EXAMPLES = """\
examples:
  minicnn doctor
  minicnn doctor --json
  NUMBA_NUM_THREADS=1 minicnn doctor
"""


def add(commands: Commands) -> None:
    doctor = add_command(
        commands, "doctor", "what slows training down on this machine", DOCTOR_HELP, DOCTOR_EXAMPLES
    )
    doctor.add_argument("--json", action="store_true", help="print JSON instead of text")
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from minicnn.doctor import run_doctor

    run_doctor(arguments.json)
    return 0
