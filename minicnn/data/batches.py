"""Batches of images: in a random order, augmented if wanted, normalised, and packed for the engine."""

from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from minicnn.checks import check_sample_weight, checked, labels_hint, plain_array
from minicnn.data.augmentation import Augmentation, Augmenter
from minicnn.data.augmentation import kernels as augmentation_kernels
from minicnn.data.inputs import CHANNELS_LAST, as_images, channel_values
from minicnn.data.mixup import Mixing, draw
from minicnn.engine.arrays import Array, address
from minicnn.engine.lanes import kernels, pack_input, unpack_output
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Argument, Input, Work
from minicnn.errors import DataError
from minicnn.kernels import LANES, blocks_of

EVALUATION_BATCH = 256  # images that pass through a network at once, where nothing is learned


class Batches:
    """Images and labels in batches, normalised: (pixel / 255 - mean[c]) / std[c] for channel c, in float32.

    images        uint8 (0 to 255), or floats from 0 to 1, which stand for pixel / 255; (N, C, H, W) or (N, H, W)
    labels        integers (N,), or rows of numbers (N, K), which are the targets of a loss
    batch_size    images per batch; the last batch of an epoch may be smaller
    mean, std     one number, or one per channel, for pixels from 0 to 1
    seed          shuffles: the order of epoch e depends on (seed, e) alone [the order of the arrays]
    augmentation  makes random variants of the images, which must be uint8; a variant depends on the seed (0 if there is
                  none), the epoch and the number of the image alone [none]
    padding       black pixels around each image, added first
    sample_weight how much each sample counts in the loss, N numbers >= 0; of two that are blended (mixup), each label
                  counts as much as its own image [1]

    Each pass over them (`for batch in batches`) is the next epoch, from epoch 0 on; `epoch(e)` is a certain one. A
    batch is what `train_step` takes; `x, labels = batch` are its arrays.

    Raises DataError or ShapeError for arrays that do not fit and for no images, ConfigError for shifts as large as the
    images.
    """

    @checked(DataError)
    def __init__(
        self,
        images: Array,
        labels: Array,
        batch_size: Annotated[int, Ge(1)],
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        seed: Annotated[int, Ge(0)] | None = None,
        augmentation: Augmentation | None = None,
        padding: Annotated[int, Ge(0)] = 0,
        sample_weight: Array | None = None,
    ) -> None:
        images, labels = as_images(images), plain_array(labels, "labels", DataError)
        if images.shape[1] == images.shape[2] > 4 and images.shape[3] in (1, 3, 4):
            raise DataError(f"images: expected (N, C, H, W), received {images.shape}{CHANNELS_LAST}")
        if augmentation and images.dtype != np.uint8:
            raise DataError(f"images: expected uint8 with an augmentation, received {images.dtype}")
        rows = labels.ndim == 2 and labels.dtype.kind in "fb"
        if labels.shape[:1] != images.shape[:1] or not (rows or (labels.ndim == 1 and labels.dtype.kind in "iu")):
            raise DataError(
                f"labels: expected {len(images)} integers, received {labels.dtype} {labels.shape}{labels_hint(labels)}"
            )
        if not rows and labels.min() < 0:
            raise DataError(f"labels: expected integers >= 0, received {labels.min()} at index {labels.argmin()}")
        channels = images.shape[1]
        given = (channel_values(name, value, channels) for name, value in (("mean", mean), ("std", std)))
        means, stds = (np.broadcast_to(np.asarray(value, np.float64), channels) for value in given)
        if padding:
            images = pad_images(images, padding)
        if images.dtype == np.float32:  # normalised here, once for all epochs
            columns = (values.astype(np.float32).reshape(-1, 1, 1) for values in (means, stds))
            images = (images - next(columns)) / next(columns)
        images = np.ascontiguousarray(images).view()
        images.flags.writeable = False
        self.augmenter = Augmenter(augmentation, images, seed or 0) if augmentation and augmentation.alone else None
        self.mixup = augmentation.mixup if augmentation else 0.0
        self.images = images.reshape(len(images), channels, -1)
        self.sample_shape = images.shape[1:]
        self.labels = labels.astype(np.float32 if rows else np.int64)
        self.weights = None if sample_weight is None else check_sample_weight(sample_weight, len(images))
        self.batch_size = batch_size
        self.seed = seed
        self.scale = (1 / (255 * stds)).astype(np.float32)
        self.shift = (-means / stds).astype(np.float32)
        self._passes = 0

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator["Batch"]:
        self._passes += 1
        return self.epoch(self._passes - 1)

    def __repr__(self) -> str:
        return f"Batches({len(self.images)} images of {self.sample_shape}, batch_size={self.batch_size})"

    def originals(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of these numbers before they are augmented: uint8 (n, C, H, W), with the padding."""
        return np.array(self.images[numbers]).reshape(-1, *self.sample_shape)

    def part(self, rank: int, size: int) -> "Batches":
        """Part number `rank` of `size` equal parts of the samples, as they are; it may be empty."""
        first, end = _bounds(len(self.images), rank, size)
        part = copy(self)
        part.augmenter, part.mixup = None, 0.0  # their numbers are those of all samples
        part.images, part.labels = self.images[first:end], self.labels[first:end]
        part.weights = None if self.weights is None else self.weights[first:end]
        return part

    @checked(DataError)
    def order(self, epoch: Annotated[int, Ge(0)], numbers: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The order of the images in an epoch, of all or of those with these numbers."""
        chosen = np.arange(len(self.images)) if numbers is None else numbers
        if self.seed is None:
            return chosen
        return np.random.default_rng((self.seed, epoch)).permutation(chosen)

    def epoch(self, epoch: int = 0, numbers: NDArray[np.int64] | None = None) -> Iterator["Batch"]:
        """The batches of epoch 0, 1, ..., of all images or of those with these numbers. Raises DataError below 0."""
        chosen = _Epoch(self, self.order(epoch, numbers), epoch)
        count = len(chosen.order) - LANES
        for start in range(0, count, self.batch_size):
            yield Batch(self, chosen, start, min(self.batch_size, count - start))

    @property
    def augmented(self) -> bool:
        """Whether an epoch sees other images than the originals."""
        return self.augmenter is not None or self.mixup > 0

    def mixing(self, epoch: int) -> Mixing | None:
        """How the images are blended in an epoch, if they are."""
        return draw(self.mixup, self.seed or 0, epoch, len(self.images)) if self.mixup else None

    def variants(self, numbers: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        """What an epoch trains on for the images of these numbers: uint8 (n, C, H, W), before it is normalised."""
        mixing = self.mixing(epoch)
        if mixing is None:
            return self._alone(numbers, epoch)
        mixing = mixing.of(numbers)
        both = self._alone(numbers, epoch), self._alone(mixing.partners, epoch)
        return np.round(mixing.blend(*both)).astype(np.uint8)

    def _alone(self, numbers: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        return self.originals(numbers) if self.augmenter is None else self.augmenter.variants(numbers, epoch)


class _Epoch:
    """The images of a pass in their order, their labels, and where both lie.

    The last block reads a whole block of entries: what it adds lies in lanes that do not count.
    """

    def __init__(self, source: Batches, order: NDArray[np.int64], number: int) -> None:
        self.order = np.concatenate([order, np.zeros(LANES, np.int64)])
        self.labels: Array = source.labels[self.order]
        self.weights: Array | None = None if source.weights is None else source.weights[self.order]
        self.most = self.labels.max() if self.labels.dtype == np.int64 else np.inf
        self.number = number
        mixing = source.mixing(number)
        self.mixing = mixing and mixing.of(self.order)
        self.label_mixing = self.mixing
        if self.mixing and source.weights is not None:
            both = source.weights[self.order], source.weights[self.mixing.partners]
            self.weights, self.label_mixing = self.mixing.blend(*both), self.mixing.weighted(*both)
        # Asked for once, as each batch begins with cold caches and `ctypes` does much.
        self.labels_at = int(self.labels.ctypes.data)
        #: Names of inputs with their addresses, and how many bytes each sample takes there.
        self.inputs = [(name, getattr(source, name).ctypes.data, 0) for name in ("images", "scale", "shift")]
        self.inputs.append(("order", self.order.ctypes.data, 8))
        if self.mixing:
            self.inputs.append(("partners", self.mixing.partners.ctypes.data, 8))
            self.inputs.append(("shares", self.mixing.shares.ctypes.data, 4))


class Batch:
    """One batch, not yet gathered: labels, and the images on demand."""

    def __init__(self, source: Batches, epoch: _Epoch, start: int, samples: int) -> None:
        self._source, self._epoch, self._start, self._samples = source, epoch, start, samples
        self._targets: Array | None = None
        self._whole: Batch | None = None

    @property
    def _span(self) -> slice:
        """Where its samples are in the order of the epoch."""
        return slice(self._start, self._start + self._samples)

    @property
    def whole(self) -> "Batch":
        """The batch of which this one is a shard, or itself."""
        return self._whole or self

    @property
    def total(self) -> int:
        """The number of samples of the whole batch."""
        return len(self.whole)

    def shard(self, rank: int, size: int) -> "Batch":
        """Part number `rank` of `size` equal parts: some have one sample less than others, and may have none."""
        return self.part(*_bounds(self._samples, rank, size))

    def part(self, first: int, end: int) -> "Batch":
        """The samples from number `first` to `end` - 1, as a part of the whole batch's step."""
        part = self.cut(first, end)
        part._whole = self.whole
        return part

    def __len__(self) -> int:
        return self._samples

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self.arrays())

    @property
    def x(self) -> Array:
        """The normalised images, float32 (N, C, H, W)."""
        return self.arrays()[0]

    def __repr__(self) -> str:
        return f"Batch({self._samples} images of {self.sample_shape})"

    @property
    def labels(self) -> Array:
        """The labels int64 (n,) or rows (n, K), or what has been assigned in their place."""
        if self._targets is not None:
            return self._targets
        return self._epoch.labels[self._span]

    @labels.setter
    def labels(self, targets: Array) -> None:
        self._targets = targets

    @property
    def weights(self) -> Array | None:
        """The weights of its samples, if they have any."""
        return None if self._epoch.weights is None else self._epoch.weights[self._span]

    def labels_below(self, classes: int) -> bool:
        """Whether its targets are the labels of its data, all of them less than that, without weights."""
        plain = self._targets is None and self._epoch.weights is None and self._epoch.mixing is None
        return plain and bool(self._epoch.most < classes)

    @property
    def labels_at(self) -> int:
        """Where its labels lie, with as many behind them as complete the last block."""
        return self._epoch.labels_at + 8 * self._start

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The numbers of its samples among all images."""
        return self._epoch.order[self._span]

    @property
    def mixing(self) -> Mixing | Any:  # None without mixup; who reads batch.mixing.shares need not ask
        """How its samples are blended with others, if they are."""
        return self._epoch.mixing and self._epoch.mixing.of(self._span)

    @property
    def label_mixing(self) -> Mixing | None:
        """How their labels are: with weights, each label has the weight of its own image."""
        return self._epoch.label_mixing and self._epoch.label_mixing.of(self._span)

    @property
    def labels_of_partners(self) -> Array:
        """The labels of those with which its samples are blended."""
        return self._source.labels[self.mixing.partners if self.mixing else self.numbers]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self._source.sample_shape

    def cut(self, first: int, end: int) -> "Batch":
        """The samples from number `first` to `end` - 1."""
        part = copy(self)
        part._start, part._samples = self._start + first, end - first
        part._targets = None if self._targets is None else self._targets[first:end]
        return part

    # --- as the first calls of a program --------------------------------------------------------------

    @property
    def key(self) -> Hashable:
        """What the calls depend on."""
        source = self._source
        alone = source.images.dtype.char if source.augmenter is None else source.augmenter.key
        return alone, self._epoch.mixing is not None

    def declare(self, work: Work) -> Map:
        """Declares what draws, augments and normalises the images of a block."""
        if self._source.images.dtype == np.float32:
            return pack_input(work, "x", self.sample_shape)
        x = self._gather(work, "order")
        if self._epoch.mixing is not None:
            others, shares = self._gather(work, "partners"), Input("shares", "f", LANES * 4)
            work.call(augmentation_kernels.mix, x, others, shares, x.vectors)
        return x

    def _gather(self, work: Work, order_name: str) -> Map:
        channels, height, width = self.sample_shape
        images: Argument = Input("images", "b")
        order: Argument = Input(order_name, "i", LANES * 8)
        augmenter = self._source.augmenter
        if augmenter is not None:
            images, order = augmenter.declare(work, images, order)
        x = work.map(self.sample_shape)
        scale, shift = Input("scale", "f"), Input("shift", "f")
        work.call(kernels.gather, images, order, x, channels, height * width, scale, shift)
        return x

    def set_inputs(self, program: Program) -> None:
        """Before a run: where this batch's images are."""
        source = self._source
        if source.images.dtype == np.float32:
            self._gathered = source.images[self.numbers]
            program.set("x", address(self._gathered))
            return
        for name, begin, size in self._epoch.inputs:
            program.set(name, begin + size * self._start)
        if source.augmenter is not None:
            source.augmenter.set_inputs(program, self._epoch.number)

    def arrays(self) -> tuple[Array, Array]:
        """The normalised images, float32 (N, C, H, W), and their labels; of blended ones, that of the larger share."""
        x = np.empty((self._samples, *self.sample_shape), np.float32)
        work = Work(blocks_of(self._samples), np.float32, True, False)
        unpack_output(work, self.declare(work), "out")
        program = work.finish()
        program.set("out", address(x))
        self.set_inputs(program)
        program.run(self._samples)
        return x, self.labels


def pad_images(images: Array, padding: int) -> Array:
    """Images (N, C, H, W) with `padding` pixels of 0 around each."""
    around = (padding, padding)
    return np.pad(images, ((0, 0), (0, 0), around, around))


def _bounds(count: int, rank: int, size: int) -> tuple[int, int]:
    """Where part number `rank` of `size` parts of `count` things begins and ends; the first parts are the largest."""
    return -(-rank * count // size), -(-(rank + 1) * count // size)
