"""A network with all that training and using it takes."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import copy, deepcopy
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from minicnn import own_code
from minicnn.checks import check_sample_weight, checked, takes
from minicnn.console import info, warn
from minicnn.data.augmentation import Augmentation
from minicnn.data.base import hold_out, statistics
from minicnn.data.batches import Batches
from minicnn.data.inputs import CHANNELS_LAST, as_images, as_labels, as_pairs, as_rows
from minicnn.engine import cache
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.progress import compiling
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers import Layer
from minicnn.layers.registry import from_config, own_names
from minicnn.losses import LOSSES, Loss, name_of
from minicnn.losses.targets import weights_of_classes
from minicnn.model.file import FILE_NAME, read
from minicnn.model.predictor import Predictor
from minicnn.model.tta import evaluate_scores
from minicnn.optimizers import SGD, Optimizer
from minicnn.schedules import Schedule, make_schedule
from minicnn.training.callbacks.console import ClassReport, EpochLines, ProgressBar
from minicnn.training.callbacks.logs import MetricsLog
from minicnn.training.callbacks.model_file import ModelFile
from minicnn.training.callbacks.weights import LastFiniteWeights
from minicnn.training.progress import History
from minicnn.training.range_test import RangeTest, range_test
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import Evaluation, evaluate
from minicnn.training.trainer import Callback, Trainer


class Model(Predictor):
    """A network that takes images as they are (pixels from 0 to 255, or from 0 to 1), to train and to use.

    If its output is a map (see `conversion.fully_convolutional`), it also takes images larger than `input_shape`.

    network      a Sequential; any other Layer becomes a Sequential of one
    input_shape  the shape of one image, (C, H, W) [that of the images of the first `fit`]; if the network does not
                 take images, the shape of one sample, such as (features,)
    mean, std    one number, or one per channel: the network sees (pixel - mean) / std, with pixels from 0 to 1 [those
                 of the images of the first `fit`; 0 and 1 if input_shape is given]
    classes      the names of the outputs, if they have any
    data_set     the name of the data set that it was trained on, if it has one
    loss         the name of the loss that it is trained with, on which `predict_proba` depends
    padding      black pixels around each image, added before it is normalised; the network then takes
                 `network_shape`, (C, H + 2 padding, W + 2 padding)
    background   what transparent pictures are laid over: a grey level from 0 to 255, or [red, green, blue]
    augmentation what it was trained with, from which `tta` draws; `fit` sets it [none]

    Raises MinicnnError (ShapeError) for arguments that do not fit together.
    """

    @checked(MinicnnError, "Model.fit")
    def fit(
        self,
        images: Any,
        labels: Any = None,
        epochs: Annotated[int, Ge(1)] = 1,
        batch_size: Annotated[int, Ge(1)] = 64,
        *,
        accumulate: Annotated[int, Ge(1)] = 1,
        validation: Any = None,
        optimizer: Optimizer | None = None,
        loss: Loss | None = None,
        schedule: str | Schedule | None = None,
        augmentation: Augmentation | None = None,
        callbacks: Sequence[Callback] = (),
        seed: Annotated[int, Ge(0)] = 0,
        class_weight: Any = None,
        sample_weight: Any = None,
        folder: str | os.PathLike[str] | None = None,
        verbose: bool = True,
    ) -> History:
        """Trains the network further, starting from its weights, and returns the figures of each epoch.

        images        uint8 (0 to 255) or floats (0 to 1), (N, H, W) or (N, C, H, W); or a data set of torchvision, of
                      Hugging Face or of your own, with images and labels: anything with a length whose items are pairs
                      (image, label) or dicts with such keys. Pillow images are resized to `input_shape`, if it is given
        labels        N integers, names of classes, or one-hot rows; rows of probabilities, for SoftmaxCrossEntropy;
                      rows (N, K) of 0 and 1 with BCEWithLogits, where an image may have several labels [those of the
                      data set]
        epochs        passes over the images
        batch_size    images that go through the network at once
        accumulate    batches whose gradients are averaged for one step of the optimizer
        validation    a share such as 0.1, which is held out of each class, a pair (images, labels), or a data set; the
                      model is evaluated on these images after each epoch [none]
        optimizer     [SGD(lr=0.05, momentum=0.9)]
        loss          one of your own counts afterwards as softmax-cross-entropy if it `takes_logits`, else as
                      mean-squared-error [the one that the model was made with]
        schedule      the name of a schedule (see `make_schedule`), or a function that takes the number of the step, 0,
                      1, ..., and returns its learning rate; the optimizer's own comes back afterwards [its own]
        augmentation  trains on random variants of the images, which must be uint8 [none]
        callbacks     see `Callback`; called in this order
        seed          for the order of the images, the choice of those held out, and the augmentation
        class_weight  how much the images of each class count in training: "balanced", for N / (K n[k]) if n[k] of N
                      images have class k of K, K numbers, or a dict by number or name of the class [1]
        sample_weight how much each image counts in training: N numbers, times the weight of its class [1]. The loss of
                      a batch is the weighted mean; that on held-out images has no such weights
        folder        where to write metrics.csv, timings.csv and model.safetensors, also after an interrupt; not the
                      folder of a run of `minicnn train` [nothing is written]
        verbose       whether to print a line for each epoch, and to show a progress bar at a terminal or in a notebook

        Equal seeds, weights and arguments give equal results. Raises MinicnnError for arguments that do not fit
        together, and DivergedError when the loss is not finite. The network then gets the last weights with a finite
        loss.
        """
        known = copy(self)  # with what the data tell; until all is checked, the model stays as it is
        given, size = (class_weight, sample_weight), batch_size * accumulate
        loss, batches, test_batches = known._prepared(loss, images, labels, validation, size, augmentation, seed, given)
        optimizer = self._own(optimizer or SGD(lr=0.05, momentum=0.9), "fit")
        if len(batches) == 1 and accumulate > 1 and verbose:
            count = len(batches.images)
            step = f"a step of {accumulate} x {batch_size} images is all {count:,} of an epoch"
            warn(f"fit: accumulate: {step}, which learns slowly; make it or batch_size smaller")
        lr = optimizer.lr
        if isinstance(schedule, str):
            schedule = make_schedule(schedule, lr, epochs * len(batches))
        elif schedule is not None and not callable(schedule):
            raise MinicnnError(f"fit: schedule: expected a name, or a function of the step, received {schedule!r}")
        place = None if folder is None else _folder(folder)
        remedy = "train longer" if class_weight is not None else 'try class_weight="balanced"'
        said = [ProgressBar(), EpochLines(known.classes), ClassReport(known.classes, remedy)] if verbose else []
        with place or nullcontext():
            files = [MetricsLog(place), ModelFile(place, FILE_NAME, self.to_bytes)] if place else []
            trainer = Trainer(
                self.network,
                loss,
                optimizer,
                batches,
                test_batches,
                epochs,
                schedule=schedule,
                callbacks=[LastFiniteWeights(), *said, *callbacks, *files],
                held_out="validation",
                accumulate=accumulate,
            )
            if not optimizer.parameters:
                optimizer.bind(self.network.parameters())
            known.augmentation = augmentation or self.augmentation
            vars(self).update(vars(known))
            with compiling():  # before the first epoch's clock runs
                cache.addresses(trainer.kernels())
            try:
                trainer.fit()
            finally:
                optimizer.lr = lr
        with trainer.result():
            weights = self.network.state_dict()
        self.network.load_state_dict(weights)
        if verbose and trainer.progress.stopped:
            info(f"stopped after epoch {trainer.progress.epoch - 1} of {epochs}: {trainer.progress.stopped}")
        return History(trainer.progress.metrics)

    @checked(MinicnnError, "Model.find_lr")
    def find_lr(
        self,
        images: Any,
        labels: Any = None,
        batch_size: Annotated[int, Ge(1)] = 64,
        *,
        optimizer: Optimizer | None = None,
        loss: Loss | None = None,
        augmentation: Augmentation | None = None,
        seed: Annotated[int, Ge(0)] = 0,
        class_weight: Any = None,
        sample_weight: Any = None,
        accumulate: Annotated[int, Ge(1)] = 1,
        start: float = 1e-5,
        end: float = 10.0,
        steps: int = 200,
    ) -> RangeTest:
        """The learning-rate range test of a copy of the network: `find_lr(...).suggestion` is a rate for `fit`.

        start, end, steps: see `range_test`; all other arguments are those of `fit`. The model stays as it is.
        """
        given, size = (class_weight, sample_weight), batch_size * accumulate
        loss, batches, _ = copy(self)._prepared(loss, images, labels, None, size, augmentation, seed, given)
        rule = self._own(optimizer or SGD(momentum=0.9), "find_lr")
        network, rule = deepcopy((self.network, rule))
        if not rule.parameters:
            rule.bind(network.parameters())
        return range_test(network, loss, rule, batches, start, end, steps, accumulate=accumulate)

    def _own(self, optimizer: Optimizer, place: str) -> Optimizer:
        """The optimizer. Raises MinicnnError for that of another network."""
        self.network.claim_parameters()
        if optimizer.parameters and not any(one.cell.home is self.network.home for one in optimizer.parameters):
            name = type(optimizer).__name__
            raise MinicnnError(
                f"{place}: optimizer: expected one of this model's parameters, received that of another network; "
                f"make it without parameters, {name}(lr={optimizer.lr:g}), and it gets the model's"
            )
        return optimizer

    def _prepared(
        self,
        loss: Loss | None,
        images: Any,
        labels: Any,
        validation: Any,
        batch_size: int,
        augmentation: Augmentation | None,
        seed: int,
        weights: tuple[Any, Any],
    ) -> tuple[Loss, Batches, Batches | None]:
        """The loss, the batches to train with, and those that are held out. The model takes from them what it does not
        know yet."""
        loss = self._chosen(loss)
        first = self._input_shape is None
        pixels, labels = self._arrays(images, labels)
        if first and self._has_channels_last(pixels.shape[1:]):
            raise ShapeError(f"images: expected (N, H, W) or (N, C, H, W), received {pixels.shape}{CHANNELS_LAST}")
        sides = tuple(side + 2 * self.padding for side in pixels.shape[2:])
        outputs = self.network.output_shape((pixels.shape[1], *sides))
        if len(outputs) != 1:
            raise ShapeError(f"fit: expected a network that gives one score per class, (K,), received {outputs}")
        targets, self.classes = self._targets(labels, len(pixels), outputs[0])
        of_classes, of_samples = weights
        if of_samples is not None:
            of_samples = check_sample_weight(of_samples, len(pixels))
        held_out: tuple[Array, Array] | None = None
        if isinstance(validation, int | float):
            chosen = hold_out(targets, validation, seed)
            held_out = pixels[chosen], targets[chosen]
            pixels, targets = pixels[~chosen], targets[~chosen]
            of_samples = None if of_samples is None else of_samples[~chosen]
        elif validation is not None:
            held_out = self._held_out(validation, pixels.shape[1:], outputs[0])
        if of_classes is not None:
            if targets.ndim > 1:
                raise MinicnnError("fit: class_weight: expected labels of one class each with it, received rows")
            each = weights_of_classes(of_classes, self.classes, targets, outputs[0])[targets]
            of_samples = each if of_samples is None else each * of_samples
        if first:
            found = statistics(pixels)
            self.complete(pixels.shape[1:], found["mean"].tolist(), found["std"].tolist())
        self.check_classes()
        batches = Batches(
            pixels,
            targets,
            batch_size,
            self.mean,
            self.std,
            seed,
            augmentation,
            padding=self.padding,
            sample_weight=of_samples,
        )
        if targets.ndim == 1:
            loss.balance(targets, outputs[0])
        return loss, batches, held_out and self.evaluation_batches(*held_out)

    def _arrays(self, images: Any, labels: Any, shape: Shape | None = None) -> tuple[Array, Any]:
        """Images (N, C, H, W), of that shape if it is given, and their labels; of a data set, if there are none."""
        shape = shape or self._input_shape
        if labels is None:
            images, labels = self._pairs("labels: expected one for each image", images, shape)
        return as_images(images, shape), labels

    def _held_out(self, validation: Any, shape: Shape, outputs: int) -> tuple[Array, Array]:
        """Images and targets of a pair, or of a data set."""
        if not isinstance(validation, tuple | list):
            expected = "validation: expected a share, a pair (images, labels)"
            validation = self._pairs(expected, validation, shape)
        elif len(validation) != 2:
            raise MinicnnError(f"fit: validation: expected a pair (images, labels), received {len(validation)} parts")
        images = as_images(validation[0], shape)
        return images, self._targets(validation[1], len(images), outputs)[0]

    def _targets(self, labels: Any, count: int, outputs: int) -> tuple[Array, tuple[str, ...] | None]:
        """Class numbers (N,) or rows (N, K), and the names of the classes."""
        kind = LOSSES[self.loss]
        if kind.takes_logits or kind.multi_label:
            rows = as_rows(labels, count, outputs, kind.multi_label)
            if rows is not None:
                return rows, self.classes
        return as_labels(labels, count, self.classes, outputs)

    def _pairs(self, expected: str, dataset: Any, shape: Shape | None) -> tuple[Any, Any]:
        """The images and labels of a data set, whose names of classes the model takes if it has none."""
        from minicnn.data.image_file import fit_image

        fit = None if shape is None else lambda picture: fit_image(picture, shape, self.background)
        images, labels, names = as_pairs(dataset, fit, expected)
        if self.classes is None:
            self.classes = names
        elif names and names != self.classes and set(names) == set(self.classes):
            raise MinicnnError(f"data set: expected classes in the order {self.classes}, received {names}")
        return images, labels

    def _chosen(self, loss: Loss | None) -> Loss:
        """The loss to train with, whose name the model takes."""
        if loss is None:
            return LOSSES[self.loss]()
        self.loss = name_of(loss)
        return loss

    def _has_channels_last(self, shape: Shape) -> bool:
        """Whether images of that shape are (H, W, C), grey or in colour, and the network takes (C, H, W)."""
        if shape[2] not in (1, 3) or shape[0] <= 4:
            return False
        return takes(self.network.output_shape, (shape[2], *(side + 2 * self.padding for side in shape[:2])))

    def evaluate(self, images: Any, labels: Any = None, tta: int = 1) -> Evaluation:
        """Loss, accuracy and scores on images and labels, which are as for `fit`. Raises MinicnnError for others.

        tta: test-time augmentation, so many views of each image, see `scores` [the image itself].

        The loss is the plain mean, without weights of classes or samples. Where an image may have several labels,
        accuracy is the share of all labels that is right.
        """
        pixels, labels = self._arrays(images, labels, self.input_shape)
        targets, classes = self._targets(labels, len(pixels), self.output_shape[0])
        if classes != self.classes:
            raise MinicnnError("evaluate: labels: expected integers, as the model has no names, received names")
        loss = LOSSES[self.loss]()
        if tta != 1:
            return evaluate_scores(self.scores(pixels, tta), loss, targets)
        return evaluate(self.network, loss, self.evaluation_batches(pixels, targets))


def _folder(path: str | os.PathLike[str]) -> RunFolder:
    """The folder of a fit, made. Raises MinicnnError for one that has a run of the command line."""
    place = Path(path)
    if (place / "config.yaml").exists():
        raise MinicnnError(f"fit: folder: expected another one than that of a run of minicnn train, received {place}")
    return RunFolder.at(place)


def load(path: str | Path, layers: Mapping[str, type[Layer]] | None = None, trust_code: bool = False) -> Model:
    """Loads the model of a run's folder (its model.safetensors), or of a file that `Model.save` wrote.

    layers: the classes of your own layers by name, such as {"PReLU": PReLU}. A file never holds code. A layer that a
    configuration named as my_module:PReLU can also be had from my_module.py beside the file (in the run's folder);
    trust_code says that you trust that code, and that it may run.
    Raises MinicnnError for a file that is missing, damaged, not a model, of a newer format, or has an unknown layer.
    """
    place, described, state = read(Path(path))
    own = [name for name in own_names(described.layers) if not {name, name.partition(":")[2]} & set(layers or ())]
    own_code.load_from(place.parent, own, place, asked_for=trust_code)
    try:
        network = from_config(described.layers, layers)
        if any(array.dtype == np.float64 for array in state.values()):
            network.astype(np.float64)
        network.load_state_dict(state)
        rest = described.model_dump(exclude={"format", "layers", "augmentation"})
        return Model(network, **rest, augmentation=described.augmentation)
    except MinicnnError as error:
        raise MinicnnError(f"{place}: {error}") from None
