"""What a training goes on from at any moment between two steps: its way into a checkpoint and back."""

from typing import Any

from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.progress import Progress
from minicnn.training.trainer import Trainer


def take(trainer: Trainer, **facts: Any) -> Checkpoint:
    """This moment, with some facts more. To be called by all ranks."""
    generators = [generator.bit_generator.state for generator in trainer.network.generators()]
    state = {
        **facts,
        "progress": trainer.progress.numbers(),
        "callbacks": {type(callback).__name__: callback.state() for callback in trainer.callbacks if callback.state()},
        "generators": trainer.group.all_gather(generators),  # a list for each rank
    }
    return Checkpoint(_arrays(trainer), state)


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Goes back to that moment. Raises MinicnnError if it does not fit the training."""
    state, arrays, own = checkpoint.state, checkpoint.arrays, _arrays(trainer)
    kept, expected = ({name: array.shape for name, array in x.items()} for x in (arrays, own))
    if kept != expected:
        raise MinicnnError(f"checkpoint: expected arrays {expected}, received {kept}")
    for name, array in own.items():
        array[...] = arrays[name]
    trainer.progress = Progress(**state["progress"])
    trainer.optimizer.steps = trainer.progress.step
    same_ranks = len(state["generators"]) == trainer.group.world_size
    generators = state["generators"][trainer.group.rank if same_ranks else 0]
    try:
        for callback in trainer.callbacks:
            name = type(callback).__name__
            if name in state["callbacks"] or callback.state():  # a state may be empty until something has happened
                callback.load_state(state["callbacks"][name])
        for generator, bits in zip(trainer.network.generators(), generators, strict=True):
            generator.bit_generator.state = bits
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise MinicnnError(
            f"checkpoint: expected the states of the network's generators and of {len(trainer.callbacks)} callbacks: "
            f"{error}"
        ) from None
    if not same_ranks:
        trainer.group.separate_generators(trainer.network)
    if trainer.progress.batches > trainer.steps_of_epoch:
        raise MinicnnError(
            f"checkpoint: expected at most the {trainer.steps_of_epoch} batches of an epoch, "
            f"received {trainer.progress.batches} that are done"
        )


def _arrays(trainer: Trainer) -> dict[str, Array]:
    arrays = {f"network.{name}": array for name, array in trainer.network.state_arrays().items()}
    arrays |= {f"optimizer.{name}": array for name, array in trainer.optimizer.state().items()}
    for callback in trainer.callbacks:
        arrays |= {f"{type(callback).__name__}.{name}": array for name, array in callback.arrays().items()}
    return arrays
