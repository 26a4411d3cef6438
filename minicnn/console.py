"""Lines for the user: what happens on standard output, what is wrong on standard error."""

import os
import sys


def say(text: str) -> None:
    """A line for the user, at once. Without a reader (`| head`, a closed session) the run goes on."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
