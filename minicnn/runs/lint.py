"""Settings that give no error and train badly all the same, each found by a rule that names the remedy.

The first rules read the settings, the others look at the data or send the first batch through the network. Where a
rule has a number for its limit, that number comes from training LeNet-5 and small dense networks on mnist-subset.
"""

import copy
import math
from collections.abc import Iterator

import numpy as np

from minicnn.config.choices import Loss, optimizer_class
from minicnn.config.experiment import Experiment
from minicnn.data import CHARACTERS, OWN, Batches
from minicnn.data.balance import Balance
from minicnn.data.batches import Batch
from minicnn.engine.arrays import Array
from minicnn.engine.lanes import unpack
from minicnn.engine.work import Work
from minicnn.kernels import blocks_of
from minicnn.layers import Dropout, Layer
from minicnn.layers.sequential import Sequential
from minicnn.layers.walk import leaves, visits
from minicnn.metrics import words_of

SAMPLES = 128
UNLIKE = 64  # grey levels between two colours


def lint(experiment: Experiment) -> list[str]:
    """A line for each thing that is likely to go wrong, with its remedy; none where `output.lint` is false.

    The network has the weights that the run starts with and is not changed.
    """
    if not experiment.settings.output.lint:
        return []
    return [line for rule in RULES for line in rule(experiment)]


def _place(network: Layer, place: str) -> str:
    """network.layers.2.Residual.layers.0.Conv2d for the layer at "2.layers.0"."""
    words, layer = ["network.layers"], network
    for name in place.split("."):
        layer = layer.children()[name]
        words.append(f"{name}.{type(layer).__name__}" if name.isdigit() else name)
    return ".".join(words)


def _ends(layer: Layer) -> tuple[float, float] | None:
    """The range of an activation that squashes its input, between two ends where it has no gradient."""
    ends = layer.output_range if layer.elementwise else None
    return None if ends is None or math.isinf(ends[0]) or math.isinf(ends[1]) else ends


def _last_layers(experiment: Experiment) -> Iterator[str]:
    """The scores should reach the loss as the last layer with weights gives them."""
    settings, network = experiment.settings, experiment.network
    logits = settings.loss.name == "softmax-cross-entropy"
    for name, layer in reversed(network.children().items()):
        place = _place(network, name)
        if any(one.has_weights for _, one in leaves(layer)):
            return
        if layer.gives_probabilities and logits:
            yield (
                f"{place}: softmax-cross-entropy applies the softmax itself, and twice makes all "
                "classes nearly alike; remove this layer"
            )
        elif _ends(layer) and logits:
            yield (
                f"{place}: scores that are kept within a small range never become sure of a class "
                "under softmax-cross-entropy; remove this layer"
            )
        elif layer.output_range == (0, math.inf):
            yield (
                f"{place}: a {type(layer).__name__} behind the last layer with weights cuts off the scores below 0, "
                "and a class that falls there learns no more; remove this layer"
            )
        elif isinstance(layer, Dropout):
            yield (
                f"{place}: dropout directly before the loss drops the scores of whole classes; "
                "move it before the last layer with weights"
            )


def _layers(experiment: Experiment) -> Iterator[str]:
    network = experiment.network
    before: dict[str, Layer | None] = {}  # the last layer of each row, as long as nothing bends what it gives
    for visit in visits(network, experiment.spec.input_shape):
        layer, row = visit.layer, visit.place.rpartition(".")[0]
        place = _place(network, visit.place)
        if isinstance(layer, Dropout) and layer.p > 0.75:
            yield (
                f"{place}: p is the share that is dropped, and {layer.p:g} "
                f"leaves little to learn from; set 0.5 or less (or {1 - layer.p:.3g}, if "
                f"{layer.p:g} was to be kept)"
            )
        last = before.get(row)
        if layer.has_weights and layer.linear:
            # A convolution in groups and one over single pixels are one convolution in two parts.
            parts = any(getattr(c, "groups", 1) > 1 for c in (last, layer))
            if last is not None and not parts:
                yield (
                    f"{place}: no activation between it and the "
                    f"{type(last).__name__} before it, so that both can do no more than one; "
                    "put a ReLU between them"
                )
            before[row] = layer
        elif not layer.linear or visit.within:
            before[row] = None


def _learning_rate(experiment: Experiment) -> Iterator[str]:
    """With momentum m, a steady gradient moves the weights by lr / (1 - m) of it in each step; with an optimizer that
    divides by the gradient's size, by lr / (1 - m)."""
    settings, network = experiment.settings, experiment.network
    optimizer = settings.optimizer
    momentum, decay = (getattr(optimizer, name, 0.0) for name in ("momentum", "weight_decay"))
    reach = optimizer.lr / (1 - momentum)
    layers = [layer for _, layer in leaves(network)]
    hidden = sum(layer.has_weights and layer.linear for layer in layers) > 1
    grows = any(layer.elementwise and not layer.linear and not _ends(layer) for layer in layers)
    free = grows and not any(layer.normalizes for layer in layers) and getattr(optimizer, "clip_norm", None) is None
    limit = 1.0 if free else 5.0  # nothing squashes, normalises or clips
    size = settings.training.batch_size * settings.training.accumulate
    limit *= max(1.0, size / 256)  # Goyal et al. (2017), section 2.1
    usual = 0.5 * (1 - momentum)
    classes = network.output_shape(experiment.spec.input_shape)[0]
    if settings.loss.name == "half-squared-error":  # classes / 2 times the gradient of the mean
        limit, usual = limit * 4 / classes, usual * 2 / classes
    least = 0.3
    if settings.loss.name == "mean-squared-error":  # its gradient is divided by the classes, too
        least *= classes / 2
    of_steps = optimizer_class(optimizer.name).lr_is_step
    if of_steps:
        limit, usual, least = 0.015, 0.001 * (1 - momentum), 0.01
    if hidden and reach > limit * (1 + 1e-9):
        yield (
            f"optimizer.lr: {optimizer.lr:g} with a momentum of {momentum:g} is so high "
            f"that networks like this one often learn nothing; try {usual:.2g} or less"
        )
    if decay > 0.05 and not of_steps:
        yield (
            f"optimizer.weight_decay: {decay:g} pulls the weights to 0 faster than most networks learn; set 0.0005, say"
        )
    steps, schedule = experiment.total_steps, experiment.schedule
    some = np.linspace(0, steps - 1, min(steps, 1000)).astype(int).tolist()
    travel = reach / optimizer.lr * steps * float(np.mean([schedule(step) for step in some]))
    if travel < least:
        remedy = f"{usual:.2g}, " if usual > optimizer.lr else ""
        yield (
            f"optimizer.lr: {optimizer.lr:g} is so low, or {_count(steps, 'step')} so few, that "
            f"learning hardly begins; try {remedy}more epochs or smaller batches"
        )


def _schedule(experiment: Experiment) -> Iterator[str]:
    settings = experiment.settings
    schedule, epochs = settings.schedule, settings.training.epochs
    if schedule.warmup == epochs:
        yield (
            f"schedule.warmup: {_count(epochs, 'epoch')} of warm-up is the whole run, and the schedule "
            "never begins; give it less, or training.epochs more"
        )
    elif schedule.step_size is not None and schedule.warmup + schedule.step_size >= epochs:
        yield (
            f"schedule.step_size: the first drop would come after {schedule.warmup:g} + "
            f"{schedule.step_size:g} epochs, and the run has {epochs}; make it smaller"
        )


def _hard_examples(experiment: Experiment) -> Iterator[str]:
    settings = experiment.settings
    if settings.training.hard_examples is not None and settings.training.epochs == 1:
        yield (
            "training.hard_examples: tells what the epochs after the first train on, and there is none; "
            "set it to null, or training.epochs to 2 or more"
        )


def _stop(experiment: Experiment) -> Iterator[str]:
    settings = experiment.settings
    stop, epochs = settings.stop, settings.training.epochs
    if stop.patience is None and stop.weight_change is None:
        return
    if stop.patience is not None and settings.data.validation is None:
        yield (
            "stop.patience: the test images choose the epoch of the model, so that its test accuracy "
            "is better than it would be on new images; set data.validation: 0.1, say"
        )
    if stop.patience is not None and stop.patience >= epochs - 1:
        better = "lower loss" if stop.watch == "loss" else f"higher {words_of(stop.watch)}"
        yield (
            f"stop.patience: {_count(stop.patience, 'epoch')} without a {better} cannot pass "
            f"before the {_count(epochs, 'epoch')} of the run are over; make it smaller, or "
            "training.epochs larger"
        )
    if stop.weight_change is not None and stop.weight_change > 0.1:
        yield (
            f"stop.weight_change: a network whose weights move by almost {stop.weight_change:g} of "
            "their length in an epoch is still learning; set 0.001, say"
        )


def _average(experiment: Experiment) -> Iterator[str]:
    decay, steps = experiment.settings.training.ema, experiment.total_steps
    if decay is not None and 2 / (1 - decay) > steps:
        yield (
            f"training.ema: {decay:g} averages over the last {1 / (1 - decay):,.0f} steps, and lags far "
            f"behind in a run of {_count(steps, 'step')}; set {max(0.0, 1 - 20 / steps):.2g}, say, or null"
        )


def _augmentation(experiment: Experiment) -> Iterator[str]:
    settings = experiment.settings
    name, augmentation = settings.data.name, settings.augmentation
    if name in OWN and (augmentation.rotation or augmentation.shear):
        yield from _corners(experiment)
    if name not in CHARACTERS:
        return
    if settings.augmentation.flip:
        yield (f"augmentation.flip: the mirror image of a character of {name} is mostly none, or another one; set 0")
    if settings.augmentation.rotation > 45:
        yield (
            f"augmentation.rotation: characters of {name} turned by up to "
            f"{settings.augmentation.rotation:g} degrees become others, as a 6 becomes a 9; "
            "set 15 or less"
        )


def _corners(experiment: Experiment) -> Iterator[str]:
    """What a turn brings in should not tell that the image was turned."""
    batches = experiment.train_batches
    images = batches.originals(np.arange(min(len(batches.images), 2000)))
    edges = [images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]]
    border = np.mean([edge.mean((0, 2)) for edge in edges], axis=0).round().astype(int)
    fill = np.asarray(experiment.settings.augmentation.fill)
    if np.abs(border - fill).max() > UNLIKE:
        levels = border.tolist() if len(border) > 1 else int(border[0])
        yield (
            f"augmentation.fill: turned images get corners of {fill.tolist()}, and the borders of the images are of "
            f"{levels} on average; set {levels}"
        )


def _data(experiment: Experiment) -> Iterator[str]:
    settings, batches = experiment.settings, experiment.train_batches
    count = len(batches.images)
    if batches.batch_size > count:
        key = "batch_size" if settings.training.accumulate == 1 else "batch_size, training.accumulate"
        yield (
            f"training.{key}: {batches.batch_size:,} is more than the {count:,} "
            "training images, so that an epoch is a single step; set "
            f"{min(64, max(1, count // 8))}, say"
        )
    found = np.unique(batches.labels)
    if len(found) == 1:
        yield (
            f"data.name: all training images are of one class, number {found[0]}, and there is "
            "nothing to tell it from; add images of the others"
        )


def _balance(experiment: Experiment) -> Iterator[str]:
    loss, classes = experiment.settings.loss, experiment.spec.classes
    balance = Balance.of(experiment.train_batches.labels, classes)
    present = np.count_nonzero(balance.counts)
    if 1 < present < len(classes):
        yield (
            f"data.name: there is no training image of {balance.names[int(balance.counts.argmin())]}, which will never "
            "be answered; add some, or leave the class out"
        )
    if present > 1 and balance.uneven and getattr(loss, "class_weights", None) is None:
        low, high = balance.names[balance.smallest], balance.names[balance.largest]
        times = f"{balance.ratio:.3g}" if balance.ratio < 100 else f"{balance.ratio:,.0f}"
        yield (
            f"loss: {high} has {times} times as many training images "
            f"as {low}, and {balance.always()}; "
            f"so that {low} counts, too, {remedy(loss)}"
        )


def remedy(loss: Loss) -> str:
    """What helps against classes that are not answered."""
    if getattr(loss, "class_weights", None) is not None:
        return "train longer, or give more images of the small classes"
    name = "" if loss.name == "softmax-cross-entropy" else "name: softmax-cross-entropy, "
    return f"set loss: {{{name}class_weights: balanced}}" if name else "set loss.class_weights: balanced"


def _first_batch(experiment: Experiment) -> Iterator[str]:
    """What the first batch looks like, and what becomes of it in the network."""
    network, batches = experiment.network, experiment.train_batches
    batch = _batch(batches)
    x, _ = batch.arrays()
    mean, deviation = float(x.mean()), float(x.std())
    if abs(mean) > 1.5 or not 0.03 <= deviation <= 2.5:
        pixels = batches.images[:2000] / 255
        yield (
            f"data.mean, data.std: they give the pixels of the first batch the mean {mean:.2g} and "
            f"the standard deviation {deviation:.2g}, far from 0 and 1; set those of pixels in "
            f"0..1, here {pixels.mean():.2g} and {pixels.std():.2g}"
        )
    y = np.zeros(0)
    for place, layer, y in _outputs(network, batch):
        if ends := _ends(layer):
            low, high = ends
            margin = 0.01 * (high - low)
            share = float(np.mean((y < low + margin) | (y > high - margin)))
            if share > 0.5:
                yield (
                    f"{_place(network, place)}: {share:.0%} of its outputs on the first batch are "
                    "at the ends of its range, where it has no gradient; let its inputs be "
                    "smaller, with network.init: xavier, data.std or a BatchNorm2d before it"
                )
    spread = float(y.std(axis=0).max())
    if len(y) > 1 and spread < 0.002:
        yield (
            f"network.layers: the scores are almost the same for all images of the first batch "
            f"(they differ by {spread:.1g}), and learning hardly begins; use ReLU with "
            "network.init: kaiming or Tanh with xavier, BatchNorm2d, or fewer layers"
        )


def _batch(batches: Batches) -> Batch:
    """The first images that are trained with; small batches are put together."""
    batches = copy.copy(batches)
    batches.batch_size = max(batches.batch_size, SAMPLES)
    batch = next(batches.epoch())
    return batch.cut(0, min(len(batch), SAMPLES))


def _outputs(network: Sequential, batch: Batch) -> list[tuple[str, Layer, Array]]:
    """Each layer with its output in training, from one pass of a copy; it takes the kernels of a training step."""
    count = len(batch)
    work = Work(blocks_of(count), np.float32, True, True)
    y, outputs = batch.declare(work), []
    for place, layer in copy.deepcopy(network).children().items():
        y, _ = layer.declare(work, y)
        rows = work.rows(y.vectors)
        unpack(work, y, rows)
        outputs.append((place, layer, rows.array[:count].reshape(count, *y.shape)))
    program = work.finish()
    batch.set_inputs(program)
    program.run(count)
    return outputs


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


RULES = (
    _last_layers,
    _layers,
    _learning_rate,
    _schedule,
    _stop,
    _average,
    _hard_examples,
    _augmentation,
    _data,
    _balance,
    _first_batch,
)
