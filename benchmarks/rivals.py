"""The frameworks that are compared, each with the same networks, weights and batches.

All take float32 arrays in memory. A training step is forward, loss, backward and update; an evaluation is a forward
pass with loss and accuracy. Every measurement begins with the same weights and a few steps outside the clock.
"""

import hashlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.networks import Array, Case, Conv, Dense, batches
from benchmarks.worker import Here, Worker

COMPARED_STEPS, TOLERANCE = 5, 1e-4  # the losses of all rivals must agree
UNTIMED_STEPS, UNTIMED_CALLS = 3, 50
IDENTITY_STEPS = 10  # after these, 1 and 2 threads must have identical parameters


class Rival(ABC):
    """A framework with a network in it: below what it has to define, then what it is asked for."""

    case: Case
    batches: Sequence[tuple[Any, Any]]
    weights: Sequence[Array]

    @abstractmethod
    def use_threads(self, threads: int) -> None:
        """Let this process use `threads` threads from now on, if that can be set here at all."""

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
    def scores(self, x: Any) -> Array:
        """Return what the network says to one image, with a batch axis."""

    @abstractmethod
    def parameters(self) -> list[Array]:
        """Return copies of all parameters, in the order of the layers, weight before bias, shaped like PyTorch's."""

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
        return [*Rival.train(self, COMPARED_STEPS), self.evaluate()[0]]

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

    def latency(self, seconds: float) -> tuple[float, float]:
        """Median and 99th percentile of the microseconds that one image takes."""
        self.reset()
        images = [x for x, _ in self.batches]
        for i in range(UNTIMED_CALLS):
            self.scores(images[i % len(images)])
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            self.scores(images[len(times) % len(images)])
            times.append(time.perf_counter() - start)
        median, late = np.percentile(times, [50, 99]) * 1e6
        return float(median), float(late)


class Minicnn(Rival):
    def use_threads(self, threads: int) -> None:
        from minicnn.engine import driver

        driver.set_threads(min(threads, driver.most_threads()))

    def build(self, case: Case) -> None:
        import minicnn
        from minicnn.training import step as training

        self.minicnn, self.steps = minicnn, training
        self.batches = batches(case)
        self.network = minicnn.Sequential([self._layer(layer) for layer in case.network.layers])
        squared = case.network.squared_error
        self.loss = minicnn.HalfSquaredError() if squared else minicnn.SoftmaxCrossEntropy()

    def _layer(self, layer: Conv | Dense | str) -> Any:
        match layer:
            case Conv(inputs, outputs, kernel, padding):
                return self.minicnn.Conv2d(inputs, outputs, kernel, padding=padding)
            case Dense(inputs, outputs):
                return self.minicnn.Dense(inputs, outputs)
        make = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid"}
        make |= {"max": "MaxPool", "mean": "MeanPool"}
        if layer == "flatten":
            return self.minicnn.Flatten()
        return getattr(self.minicnn, make[layer])(*([2] if layer in ("max", "mean") else []))

    def reset(self) -> None:
        parameters = self.network.parameters()
        for parameter, weight in zip(parameters, self.weights, strict=True):
            parameter.value[...] = weight
        rate, momentum = self.case.network.learning_rate, self.case.network.momentum
        self.optimizer = self.minicnn.SGD(parameters, lr=rate, momentum=momentum)

    def train_step(self, x: Array, labels: Array) -> float:
        return self.steps.train_step(self.network, self.loss, self.optimizer, (x, labels)).loss

    def evaluate(self) -> tuple[float, float]:
        result = self.steps.evaluate(self.network, self.loss, self.batches)
        return result.loss, result.accuracy

    def scores(self, x: Array) -> Array:
        return self.network.forward(x)

    def parameters(self) -> list[Array]:
        return [parameter.value.copy() for parameter in self.network.parameters()]

    def environment(self) -> dict[str, Any]:
        from minicnn.engine.cache import vector_registers
        from minicnn.training.run_folder import environment

        return {**environment(), "wide": vector_registers() == 32}


class PyTorch(Rival):
    """As everybody writes it."""

    tuned = False

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def use_threads(self, threads: int) -> None:
        self.torch.set_num_threads(threads)

    def build(self, case: Case) -> None:
        torch = self.torch
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(*map(self._layer, case.network.layers))
        squared = case.network.squared_error
        self.criterion = self._squared_error if squared else torch.nn.CrossEntropyLoss()
        self.targets = torch.eye(10)
        self.batches = [(torch.from_numpy(x), torch.from_numpy(labels)) for x, labels in batches(case)]
        if self.tuned:
            layout = torch.channels_last
            self.model = self.model.to(memory_format=layout)
            self.batches = [(x.contiguous(memory_format=layout), t) for x, t in self.batches]

    def _layer(self, layer: Conv | Dense | str) -> Any:
        nn = self.torch.nn
        match layer:
            case Conv(inputs, outputs, kernel, padding):
                return nn.Conv2d(inputs, outputs, kernel, padding=padding)
            case Dense(inputs, outputs):
                return nn.Linear(inputs, outputs)
            case "max" | "mean":
                return (nn.MaxPool2d if layer == "max" else nn.AvgPool2d)(2)
        plain = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "flatten": nn.Flatten}
        return plain[layer]()

    def _squared_error(self, scores: Any, labels: Any) -> Any:
        errors = self.torch.nn.functional.mse_loss(scores, self.targets[labels], reduction="sum")
        return errors / (2 * len(labels))

    def reset(self) -> None:
        with self.torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), self.weights, strict=True):
                parameter.copy_(self.torch.from_numpy(weight))
        self.optimizer = self.torch.optim.SGD(
            self.model.parameters(),
            lr=self.case.network.learning_rate,
            momentum=self.case.network.momentum,
            fused=self.tuned,
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

    def scores(self, x: Any) -> Array:
        with self.torch.inference_mode():
            return np.asarray(self.model(x).numpy())

    def parameters(self) -> list[Array]:
        return [parameter.detach().numpy().copy() for parameter in self.model.parameters()]

    def environment(self) -> dict[str, Any]:
        return {
            "torch": str(self.torch.__version__),
            "threads": self.torch.get_num_threads(),
            "capability": self.torch.backends.cpu.get_cpu_capability(),
        }


class TunedPyTorch(PyTorch):
    """With the memory format and the optimizer that suit a CPU best."""

    tuned = True


def prepare(workers: Sequence[Worker | Here], case: Case) -> None:
    """Give all the weights that the last one draws, and stop if their losses are not the same."""
    weights = None
    for worker in reversed(workers):
        weights = worker.call("prepare", case, weights)
    reference, *others = [(w.name, np.array(w.call("losses"))) for w in reversed(workers)]
    for name, losses in others:
        difference = float(np.abs(losses - reference[1]).max())
        if not difference <= TOLERANCE:
            sys.exit(
                f"{case.network.name}, batch {case.batch_size}: expected the losses of {name} within "
                f"{TOLERANCE:g} of those of {reference[0]}, received a difference of {difference:.3g}: "
                "they do not train the same network"
            )
