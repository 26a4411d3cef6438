"""LeNet-5 in minicnn and in PyTorch eager: images per second of training and of evaluation.

    python -m benchmarks.lenet_vs_torch
    python -m benchmarks.lenet_vs_torch --threads 1 --rounds 9 --tuned --json lenet.json

All start from the same weights and take the same batches, float32 arrays in memory; before anything
is timed, their losses have to agree. A training step is forward, loss, backward and update; an
evaluation is a forward pass with loss and accuracy. Every measurement begins with the same weights and a
few steps outside the clock.
"""

import argparse
import hashlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__" and not __package__:  # started by its path instead of with -m
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Worker, load, rates, ratios, spread, table, write_json

Array = NDArray[Any]

FLAVOURS = (("relu", "max"), ("tanh", "mean"))
BATCH_SIZES = (64, 256)
IMAGES = 5120  # whole batches of either size
LEARNING_RATE, MOMENTUM = 0.01, 0.9
COMPARED_STEPS, TOLERANCE = 10, 1e-4  # the losses of all rivals must agree
UNTIMED_STEPS = 5
IDENTITY_STEPS = 20  # after these, 1 and 2 threads must have identical parameters


class Case(NamedTuple):
    activation: str
    pooling: str
    batch_size: int

    @property
    def network(self) -> str:
        return {"relu": "ReLU", "tanh": "Tanh"}[self.activation] + ", " + self.pooling


def load_batches(batch_size: int) -> list[tuple[Array, Array]]:
    """Normalised images and their labels."""
    from minicnn.data import load_dataset

    data = load_dataset("mnist-subset")
    pixels = data.train_images[:IMAGES].astype(np.float32) / 255
    images = (pixels - np.float32(data.mean[0])) / np.float32(data.std[0])
    cuts = range(batch_size, IMAGES, batch_size)
    pairs = zip(np.split(images, cuts), np.split(data.train_labels[:IMAGES], cuts), strict=True)
    return [(x.copy(), labels.copy()) for x, labels in pairs]


class Rival(ABC):
    """A framework with LeNet-5 in it: below what it has to define, then what it is asked for."""

    case: Case
    batches: Sequence[tuple[Any, Any]]
    weights: Sequence[Array]

    @abstractmethod
    def build(self, case: Case) -> None:
        """Make the network and `batches`."""

    @abstractmethod
    def reset(self) -> None:
        """Give the network `weights` and a new optimizer."""

    @abstractmethod
    def train_step(self, x: Any, labels: Any) -> float:
        """Return the loss."""

    @abstractmethod
    def evaluate(self) -> tuple[float, float]:
        """Return loss and accuracy over all batches."""

    @abstractmethod
    def parameters(self) -> list[Array]:
        """Return copies of all parameters, in the order of the layers, weight before bias."""

    @abstractmethod
    def environment(self) -> dict[str, Any]:
        """Return versions and threads."""

    def prepare(self, case: Case, weights: Sequence[Array] | None) -> Sequence[Array]:
        """Build for `case` with `weights`, or else with its own, which the others then receive."""
        self.case = case
        self.build(case)
        self.weights = self.parameters() if weights is None else weights
        return self.weights

    def train(self, steps: int, first: int = 0) -> list[float]:
        n = len(self.batches)
        return [self.train_step(*self.batches[i % n]) for i in range(first, first + steps)]

    def losses(self) -> list[float]:
        """Of the first training steps, and of the evaluation after them."""
        self.reset()
        return [*self.train(COMPARED_STEPS), self.evaluate()[0]]

    def fingerprint(self) -> str:
        """A hash of all parameters after some training: another one if a single bit differs."""
        self.reset()
        self.train(IDENTITY_STEPS)
        return hashlib.sha256(b"".join(a.tobytes() for a in self.parameters())).hexdigest()

    def training(self, seconds: float) -> float:
        """Images per second."""
        self.reset()
        self.train(UNTIMED_STEPS)
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            self.train(1, UNTIMED_STEPS + steps)
            steps += 1
        return steps * self.case.batch_size / elapsed

    def evaluation(self, seconds: float) -> float:
        """Images per second, in passes over all batches."""
        self.reset()
        self.evaluate()
        passes, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            self.evaluate()
            passes += 1
        return passes * len(self.batches) * self.case.batch_size / elapsed


class Minicnn(Rival):
    def build(self, case: Case) -> None:
        import minicnn
        from minicnn import models, training

        self.minicnn, self.steps = minicnn, training
        self.batches = load_batches(case.batch_size)
        self.network = models.lenet5(activation=case.activation, pooling=case.pooling)
        self.loss = minicnn.SoftmaxCrossEntropy()

    def reset(self) -> None:
        parameters = self.network.parameters()
        for parameter, weight in zip(parameters, self.weights, strict=True):
            parameter.value[...] = weight
        self.optimizer = self.minicnn.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)

    def train_step(self, x: Array, labels: Array) -> float:
        return self.steps.train_step(self.network, self.loss, self.optimizer, (x, labels)).loss

    def evaluate(self) -> tuple[float, float]:
        result = self.steps.evaluate(self.network, self.loss, self.batches)
        return result.loss, result.accuracy

    def parameters(self) -> list[Array]:
        return [parameter.value.copy() for parameter in self.network.parameters()]

    def environment(self) -> dict[str, Any]:
        from minicnn.run_folder import environment

        return environment()


class PyTorch(Rival):
    """As everybody writes it."""

    tuned = False

    def build(self, case: Case) -> None:
        import torch
        from torch import nn

        self.torch = torch
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[case.activation]
        pool = {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}[case.pooling]
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            activation(),
            pool(2),
            nn.Conv2d(6, 16, 5),
            activation(),
            pool(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            activation(),
            nn.Linear(120, 84),
            activation(),
            nn.Linear(84, 10),
        )
        self.criterion = nn.CrossEntropyLoss()
        batches = load_batches(case.batch_size)
        self.batches = [(torch.from_numpy(x), torch.from_numpy(labels)) for x, labels in batches]
        if self.tuned:
            layout = torch.channels_last
            self.model = self.model.to(memory_format=layout)
            self.batches = [(x.contiguous(memory_format=layout), t) for x, t in self.batches]

    def reset(self) -> None:
        with self.torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), self.weights, strict=True):
                parameter.copy_(self.torch.from_numpy(weight))
        self.optimizer = self.torch.optim.SGD(
            self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=self.tuned
        )

    def train_step(self, x: Any, labels: Any) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.model(x), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def evaluate(self) -> tuple[float, float]:
        loss, correct, count = 0.0, 0, 0
        self.model.eval()
        with self.torch.inference_mode():
            for x, labels in self.batches:
                scores = self.model(x)
                loss += self.criterion(scores, labels).item() * len(labels)
                correct += int((scores.argmax(1) == labels).sum().item())
                count += len(labels)
        self.model.train()
        return loss / count, correct / count

    def parameters(self) -> list[Array]:
        return [parameter.detach().numpy().copy() for parameter in self.model.parameters()]

    def environment(self) -> dict[str, Any]:
        return {"torch": str(self.torch.__version__), "threads": self.torch.get_num_threads()}


class TunedPyTorch(PyTorch):
    """With the memory format and the optimizer that suit a CPU best."""

    tuned = True


def prepare(workers: Sequence[Worker], case: Case) -> None:
    """Give all the weights that the last one draws, and stop if their losses are not the same."""
    weights = None
    for worker in reversed(workers):
        weights = worker.call("prepare", case, weights)
    reference, *others = [(w.name, np.array(w.call("losses"))) for w in reversed(workers)]
    for name, losses in others:
        difference = float(np.abs(losses - reference[1]).max())
        if not difference <= TOLERANCE:
            sys.exit(
                f"{case}: expected the losses of {name} within {TOLERANCE:g} of {reference[0]}'s, "
                f"received a difference of {difference:.3g}: they do not train the same network"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="of each rival (default: 2)")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5 (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement (default: 0.5)")
    parser.add_argument(
        "--tuned", action="store_true", help="also against PyTorch with channels_last and fused SGD"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    options = parser.parse_args(arguments)
    if options.threads < 1 or options.rounds < 5 or not options.seconds > 0:
        parser.error("expected --threads of at least 1, --rounds of at least 5, --seconds above 0")

    busy = load()
    other_threads = 2 if options.threads == 1 else 1
    ours = Worker("minicnn", Minicnn, options.threads)
    twin = Worker(f"minicnn, threads {other_threads}", Minicnn, other_threads)
    torches = [Worker("PyTorch", PyTorch, options.threads)]
    if options.tuned:
        torches.append(Worker("PyTorch tuned", TunedPyTorch, options.threads))

    results: list[dict[str, Any]] = []
    for case in [Case(*flavour, size) for flavour in FLAVOURS for size in BATCH_SIZES]:
        print(f"measuring {case.network}, batch {case.batch_size} ...", file=sys.stderr)
        prepare([ours, twin, *torches], case)
        prints = [worker.call("fingerprint") for worker in (ours, ours, twin)]
        for task in ("training", "evaluation"):
            measured = rates([ours, *torches], task, options.rounds, options.seconds)
            results.append(
                {
                    "network": case.network,
                    "batch_size": case.batch_size,
                    "task": task,
                    "images_per_second": measured,
                    "ratios": {
                        t.name: ratios(measured["minicnn"], measured[t.name]) for t in torches
                    },
                    "same_bits_again": prints[0] == prints[1],
                    "same_bits_1_and_2_threads": prints[0] == prints[2],
                }
            )
    environment = {
        "minicnn": ours.call("environment"),
        "PyTorch": torches[0].call("environment"),
        "load_before": busy,
    }
    report(environment, results)
    if options.json:
        write_json(options.json, {"environment": environment, "results": results})


def report(environment: dict[str, Any], results: Sequence[dict[str, Any]]) -> None:
    machine, torch = environment["minicnn"], environment["PyTorch"]
    print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['lanes']} lanes; "
        f"threads: minicnn {machine['threads']} ({machine['threading_layer']}), "
        f"PyTorch {torch['threads']}\n"
        f"minicnn {machine['minicnn']}, PyTorch {torch['torch']}, Numba {machine['numba']}, "
        f"NumPy {machine['numpy']}, Python {machine['python']}\n"
    )
    if (environment["load_before"] or 0) > 0.5:
        print(
            f"Other programs were running (load {environment['load_before']:.1f}): do not quote.\n"
        )
    rows = []
    for result in results:
        measured = result["images_per_second"]
        count = len(measured["minicnn"])
        rows.append(
            [result["network"], result["task"], str(result["batch_size"])]
            + [spread(values, ",.0f") for values in measured.values()]
            + [spread(values, ".2f") for values in result["ratios"].values()]
        )
    head = [
        "network",
        "task",
        "batch",
        *measured,
        *(f"ratio to {name}" for name in result["ratios"]),
    ]
    print(f"LeNet-5, images per second: median (min - max) of {count} alternating rounds")
    print(table(head, rows))
    for text, key in (
        ("run again", "same_bits_again"),
        ("with 1 and with 2 threads", "same_bits_1_and_2_threads"),
    ):
        verdict = "bit-identical" if all(result[key] for result in results) else "DIFFERENT"
        print(f"minicnn's parameters after {IDENTITY_STEPS} steps, {text}: {verdict}")


if __name__ == "__main__":
    main()
