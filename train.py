"""`python train.py CONFIG` is `minicnn train CONFIG`."""

import sys

try:
    from minicnn.cli import main

    code = main(["train", *sys.argv[1:]])
except KeyboardInterrupt:  # so early that `main` has not seen it
    print("interrupted", file=sys.stderr)
    code = 130
raise SystemExit(code)
