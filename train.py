"""`python train.py CONFIG` is `minicnn train CONFIG`."""

import sys

from minicnn.cli import main

raise SystemExit(main(["train", *sys.argv[1:]]))
