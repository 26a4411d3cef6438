"""Further frameworks, and other ways to use PyTorch. Those that are not installed take no part."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.networks import Array, Case, Conv, Dense, batches
from benchmarks.rivals import PyTorch, Rival


class CompiledPyTorch(PyTorch):
    """With torch.compile, which needs a C++ compiler and a minute."""

    def build(self, case: Case) -> None:
        super().build(case)
        self.model.compile()


class LoaderPyTorch(PyTorch):
    """With the usual DataLoader, shuffling, in the same process."""

    def build(self, case: Case) -> None:
        super().build(case)
        images, labels = (self.torch.cat(parts) for parts in zip(*self.batches, strict=True))
        data = self.torch.utils.data.TensorDataset(images, labels)
        self.loader = self.torch.utils.data.DataLoader(data, case.batch_size, shuffle=True)
        self.rest: Iterator[Any] = iter(())

    def train(self, steps: int, first: int = 0) -> list[float]:
        return [self.train_step(*self._next()) for _ in range(steps)]

    def _next(self) -> Any:
        batch = next(self.rest, None)
        if batch is None:
            self.rest = iter(self.loader)
            batch = next(self.rest)
        return batch


class ChannelsLast(Rival):
    """A framework of functions: images are (N, H, W, C), convolution weights (rows, columns, in, out)."""

    def _start(self, case: Case) -> list[Array]:
        """`batches`, and new parameters in the framework's order of axes."""
        pairs = batches(case)
        self.batches = [(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), t) for x, t in pairs]
        rng = np.random.default_rng(0)
        arrays: list[Array] = []
        for layer in case.network.layers:
            if isinstance(layer, Conv):
                shape: tuple[int, ...] = (layer.kernel, layer.kernel, layer.inputs, layer.outputs)
            elif isinstance(layer, Dense):
                shape = (layer.inputs, layer.outputs)
            else:
                continue
            limit = np.prod(shape[:-1]) ** -0.5
            arrays.append(rng.uniform(-limit, limit, shape).astype(np.float32))
            arrays.append(np.zeros(shape[-1], np.float32))
        return arrays

    @staticmethod
    def _theirs(array: Array) -> Array:
        """An array of PyTorch's order of axes in that of the framework."""
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T

    @staticmethod
    def _ours(array: Array) -> Array:
        return np.array(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T, order="C")


class Jax(ChannelsLast):
    """With jax.jit around a whole step, whose arrays are given back to it."""

    def use_threads(self, threads: int) -> None:
        """XLA takes the cores that the process may use."""
        import os

        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

    def build(self, case: Case) -> None:
        import jax

        self.jax = jax
        self.values = self._start(case)
        self.batches = [(jax.numpy.asarray(x), jax.numpy.asarray(t)) for x, t in self.batches]
        self.step = jax.jit(self._step, donate_argnums=(0, 1))
        self.judge = jax.jit(self._judge)
        self.answer = jax.jit(self._scores)

    def _scores(self, values: Any, x: Any) -> Any:
        jax = self.jax
        arrays = iter(values)
        for layer in self.case.network.layers:
            if isinstance(layer, Conv):
                edges = [(layer.padding, layer.padding)] * 2
                axes = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(x, next(arrays), (1, 1), edges, dimension_numbers=axes)
                x = x + next(arrays)
            elif isinstance(layer, Dense):
                x = x @ next(arrays) + next(arrays)
            elif layer == "flatten":
                x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            elif layer in ("max", "mean"):
                n, h, w, c = x.shape
                x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
                x = x.max((2, 4)) if layer == "max" else x.mean((2, 4))
            else:
                x = jax.nn.relu(x) if layer == "relu" else jax.numpy.tanh(x)
        return x

    def _loss(self, values: Any, x: Any, labels: Any) -> Any:
        logs = self.jax.nn.log_softmax(self._scores(values, x))
        return -self.jax.numpy.take_along_axis(logs, labels[:, None], 1).mean()

    def _step(self, values: Any, speeds: Any, x: Any, labels: Any) -> Any:
        loss, slopes = self.jax.value_and_grad(self._loss)(values, x, labels)
        network = self.case.network
        speeds = [network.momentum * v + g for v, g in zip(speeds, slopes, strict=True)]
        values = [w - network.learning_rate * v for w, v in zip(values, speeds, strict=True)]
        return values, speeds, loss

    def _judge(self, values: Any, x: Any, labels: Any) -> Any:
        right = self._scores(values, x).argmax(1) == labels
        return self._loss(values, x, labels), right.sum()

    def reset(self) -> None:
        numpy = self.jax.numpy
        self.values = [numpy.array(self._theirs(array)) for array in self.weights]
        self.speeds = [numpy.zeros_like(array) for array in self.values]

    def train_step(self, x: Any, labels: Any) -> float:
        self.values, self.speeds, loss = self.step(self.values, self.speeds, x, labels)
        return float(loss)

    def evaluate(self) -> tuple[float, float]:
        results = [(len(t), *self.judge(self.values, x, t)) for x, t in self.batches]
        total = sum(n for n, _, _ in results)
        loss, right = sum(n * float(a) for n, a, _ in results), sum(int(b) for _, _, b in results)
        return loss / total, right / total

    def scores(self, x: Any) -> Array:
        return np.asarray(self.answer(self.values, x))

    def parameters(self) -> list[Array]:
        return [self._ours(np.asarray(array)) for array in self.values]

    def environment(self) -> dict[str, Any]:
        import jax

        return {"jax": jax.__version__}


class TensorFlow(ChannelsLast):
    """With tf.function around a whole step."""

    def use_threads(self, threads: int) -> None:
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)

    def build(self, case: Case) -> None:
        import tensorflow as tf

        self.tf = tf
        self.values = [tf.Variable(array) for array in self._start(case)]
        self.speeds = [tf.Variable(tf.zeros_like(value)) for value in self.values]
        self.batches = [(tf.constant(x), tf.constant(t)) for x, t in self.batches]
        self.step, self.answer = tf.function(self._step), tf.function(self._scores)
        self.judge = tf.function(self._judge)

    def _scores(self, x: Any) -> Any:
        tf = self.tf
        arrays = iter(self.values)
        for layer in self.case.network.layers:
            if isinstance(layer, Conv):
                edges = [[0, 0], [layer.padding] * 2, [layer.padding] * 2, [0, 0]]
                x = tf.nn.bias_add(tf.nn.conv2d(x, next(arrays), 1, edges), next(arrays))
            elif isinstance(layer, Dense):
                x = x @ next(arrays) + next(arrays)
            elif layer == "flatten":
                x = tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (x.shape[0], -1))
            elif layer in ("max", "mean"):
                pool = tf.nn.max_pool2d if layer == "max" else tf.nn.avg_pool2d
                x = pool(x, 2, 2, "VALID")
            else:
                x = tf.nn.relu(x) if layer == "relu" else tf.tanh(x)
        return x

    def _loss(self, scores: Any, labels: Any) -> Any:
        losses = self.tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        return self.tf.reduce_mean(losses)

    def _step(self, x: Any, labels: Any) -> Any:
        with self.tf.GradientTape() as tape:
            loss = self._loss(self._scores(x), labels)
        slopes = tape.gradient(loss, self.values)
        for value, speed, slope in zip(self.values, self.speeds, slopes, strict=True):
            speed.assign(self.case.network.momentum * speed + slope)
            value.assign_sub(self.case.network.learning_rate * speed)
        return loss

    def _judge(self, x: Any, labels: Any) -> Any:
        scores = self._scores(x)
        right = self.tf.argmax(scores, 1, labels.dtype) == labels
        return self._loss(scores, labels), self.tf.math.count_nonzero(right)

    def reset(self) -> None:
        for value, speed, array in zip(self.values, self.speeds, self.weights, strict=True):
            value.assign(self._theirs(array))
            speed.assign(self.tf.zeros_like(speed))

    def train_step(self, x: Any, labels: Any) -> float:
        return float(self.step(x, labels))

    def evaluate(self) -> tuple[float, float]:
        results = [(len(t), *self.judge(x, t)) for x, t in self.batches]
        total = sum(n for n, _, _ in results)
        loss, right = sum(n * float(a) for n, a, _ in results), sum(int(b) for _, _, b in results)
        return loss / total, right / total

    def scores(self, x: Any) -> Array:
        return np.asarray(self.answer(x))

    def parameters(self) -> list[Array]:
        return [self._ours(value.numpy()) for value in self.values]

    def environment(self) -> dict[str, Any]:
        import tensorflow

        return {"tensorflow": tensorflow.__version__}
