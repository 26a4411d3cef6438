"""Lines for the user: what happens on standard output, what is wrong on standard error."""

import os
import sys

from minicnn.errors import ConfigError, DivergedError, MinicnnError, RankLostError


def leads() -> bool:
    """Whether this process is the one that prints and writes: rank 0 under torchrun, or the only one."""
    return os.environ.get("RANK", "0") == "0" or not under_torchrun()


def under_torchrun() -> bool:
    """Whether torchrun, or what sets the same environment variables, has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


def say(text: str) -> None:
    """A line for the user, at once. Without a reader (`| head`, a closed session) the run goes on, and so it does when
    the disk of a file that it goes into is full."""
    if not leads():
        return
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            warn(f"standard output cannot be written: {error.strerror}")


def warn(message: str) -> None:
    if leads():
        _print_wrong(f"warning: {message}")


def _print_wrong(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (
        OSError
    ):  # nobody reads it, which is no reason to end a run, nor for Python to complain when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def complain(error: MinicnnError) -> None:
    """What is wrong, on standard error; under torchrun only once, if several ranks have found the same."""
    place = ""
    if not leads():
        rank = os.environ["RANK"]
        if (
            isinstance(error, DivergedError)
            or (isinstance(error, RankLostError) and rank != "1")  # 1 says so if 0 cannot
            or (isinstance(error, ConfigError) and os.environ.get("LOCAL_RANK") != "0")
        ):
            return
        place = f"rank {rank}: "
    for line in str(error).splitlines():
        _print_wrong(f"error: {place}{line}")
