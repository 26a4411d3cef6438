"""Settings and files with one thing changed at random, given to the command line: `python -m tests.fuzz --n 4000`.

Whatever is wrong with them, a command ends within ten seconds with exit code 0, 1 or 2, and an error is told in lines;
exit code 70 would be a fault of minicnn's.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load, save

from minicnn.cli import main
from minicnn.files import KEY, checksum
from minicnn.training.checkpoint import Checkpoint

SETTINGS = """\
network: {layers: [Flatten, LeakyReLU, Dense: {out_features: 2}]}
data: {name: arrays, path: arrays.npz}
optimizer: {lr: 0.001, momentum: 0.9}
schedule: {name: cosine, warmup: 0.5}
training: {epochs: 2, batch_size: 4, threads: 1, ema: 0.9}
output: {pictures: false}
"""
LONGEST = 10.0  # seconds
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e300, float("nan"), float("inf")),
    *("", "x", "\x1b[2J", "\ud800", "1", "x" * 10_000, "../..", "$x$", "\0"),
    *([], {}, [[]], {"": 1}, [0] * 1000, ["x"], {"x": {"x": 1}}),
]
TEXTS = [
    *("010", "1:30", "~", "!!int ''", "&a [*a]", "[" * 200, "{", "'", "\t", "- 1", "9" * 5000, "*x"),
    *("1e999", ".nan", "0x", "a: b: c", "? ", "|", "%", "@", "\x00", "\ud800".encode("utf-8", "replace").decode()),
]


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in lists and groups."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(tree: Any, rng: random.Random) -> Any:
    """A copy of plain values in which one is another, or missing."""
    tree = json.loads(json.dumps(tree))
    *way, last = rng.choice(list(places(tree)))
    node = tree
    for key in way:
        node = node[key]
    if rng.random() < 0.2:
        del node[last]
    else:
        node[last] = rng.choice(VALUES)
    return tree


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes with some changed, some left out, or the end cut off."""
    data = bytearray(content)
    place = rng.randrange(len(data))
    kind = rng.randrange(3)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 5])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 1:
        del data[place : place + rng.choice([1, 10, 100])]
    else:
        del data[place:]
    return bytes(data)


class Fuzz:
    """A folder with a run, from which each try takes a changed copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.chdir(folder)
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (8, 6, 6), np.uint8)
        labels = np.arange(8) % 2
        names = {
            f"{split}_{key}": value
            for split in ("train", "test")
            for key, value in (("images", pixels), ("labels", labels))
        }
        np.savez("arrays.npz", **names)
        Image.fromarray(np.kron(pixels[0], np.ones((4, 4), np.uint8))).save("image.png")
        Path("small.yaml").write_text(SETTINGS)
        if main(["train", "small.yaml", "training.epochs=1"]):
            raise RuntimeError("expected a run to begin with")
        [run] = Path("runs").iterdir()
        self.run = run.rename("whole")

    def config(self, rng: random.Random) -> list[str]:
        Path("bad.yaml").write_bytes(damaged(SETTINGS.encode(), rng))
        return ["train", "bad.yaml", "--dry-run"]

    def override(self, rng: random.Random) -> list[str]:
        import yaml

        path = rng.choice(list(places(yaml.safe_load(SETTINGS))))
        value = rng.choice([*TEXTS, *(json.dumps(value) for value in VALUES)])
        return ["train", "small.yaml", f"{'.'.join(map(str, path))}={value}", "--dry-run"]

    def checkpoint(self, rng: random.Random) -> list[str]:
        copy = self._copy()
        file = copy / "checkpoints" / "last.safetensors"
        whole = Checkpoint.from_bytes(file.read_bytes())
        (copy / "checkpoints" / "previous.safetensors").unlink()
        if rng.random() < 0.2:
            file.write_bytes(damaged(file.read_bytes(), rng))
        else:
            file.write_bytes(Checkpoint(whole.arrays, changed(whole.state, rng)).to_bytes())
        return ["train", "--resume", str(copy), "training.epochs=2"]

    def tables(self, rng: random.Random) -> list[str]:
        copy = self._copy()
        file = copy / rng.choice(["metrics.csv", "timings.csv", "config.yaml"])
        file.write_bytes(damaged(file.read_bytes(), rng))
        return ["train", "--resume", str(copy), "training.epochs=2"]

    def model(self, rng: random.Random) -> list[str]:
        content = (self.run / "model.safetensors").read_bytes()
        if rng.random() < 0.2:
            content = damaged(content, rng)
        else:
            arrays = load(content)
            size = int.from_bytes(content[:8], "little")
            description = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])
            del description["checksum"]
            description = changed(description, rng)
            description["checksum"] = checksum(arrays, description)
            content = save(arrays, {KEY: json.dumps(description)})
        Path("bad.safetensors").write_bytes(content)
        return ["predict", "bad.safetensors", "image.png"]

    def image(self, rng: random.Random) -> list[str]:
        Path("bad.png").write_bytes(damaged(Path("image.png").read_bytes(), rng))
        return ["predict", str(self.run), "bad.png"]

    def arrays(self, rng: random.Random) -> list[str]:
        Path("bad.npz").write_bytes(damaged(Path("arrays.npz").read_bytes(), rng))
        return ["train", "small.yaml", "data.path=bad.npz", "--dry-run"]

    def _copy(self) -> Path:
        copy = Path("copy")
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(self.run, copy))

    def attempt(self, seed: int) -> str | None:
        """One try; what was wrong with it, or None."""
        rng = random.Random(seed)
        kinds: list[Callable[[random.Random], list[str]]] = [
            *(self.config, self.override, self.checkpoint, self.tables, self.model, self.image, self.arrays)
        ]
        kind = kinds[seed % len(kinds)]
        arguments = kind(rng)
        out, err, begin = io.StringIO(), io.StringIO(), time.perf_counter()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: object = main(arguments)
            except SystemExit as error:
                code = error.code
            except BaseException as error:
                code = repr(error)
        seconds, lines = time.perf_counter() - begin, err.getvalue()
        good = code == 0 or (code in (1, 2) and lines.startswith(("error: ", "warning: ")))
        if good and seconds < LONGEST and "Traceback" not in lines:
            return None
        return f"seed {seed}, {kind.__name__}: {arguments!r:.300}: {code}, {seconds:.1f} s: {lines:.500}"


def fuzz(seeds: range) -> list[str]:
    """What was wrong with the tries of these seeds, in a folder of their own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        try:
            tries = Fuzz(Path(folder))
            return [problem for seed in seeds if (problem := tries.attempt(seed))]
        finally:
            os.chdir(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4000, help="how many tries [4000]")
    parser.add_argument("--first", type=int, default=0, help="the first seed [0]")
    given = parser.parse_args()
    problems = fuzz(range(given.first, given.first + given.n))
    print("\n".join([*problems, f"{len(problems)} of {given.n} tries went wrong"]))
    sys.exit(bool(problems))
