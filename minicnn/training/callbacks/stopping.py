"""Rules that end a run before its last epoch: functions of the rows of metrics.csv, with nothing else to remember."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minicnn.config.settings import Stop

Rows = Sequence[Mapping[str, Any]]


def reason_to_stop(stop: Stop, rows: Rows, held_out: str) -> str | None:
    """What there is to say if the run ends after the last epoch in `rows`: all rules that hold; None if it goes on.

    `held_out` is what the watched images are called in the rows, test or validation. The rules, of which null is none:

    - train_accuracy: of the images that an epoch trained on, at least this share was right
    - weight_change: over an epoch the weights w moved by less: |w at its end - w at its start| < share |w at its start|
    - patience: for so many epochs, no loss on the watched images was lower by more than min_delta than the lowest one
      before (Prechelt, Early stopping - but when?, 1998, criterion UP in the form that Keras has)
    """
    return "; ".join(_reasons(stop, rows, held_out)) or None


def _reasons(stop: Stop, rows: Rows, held_out: str) -> Iterator[str]:
    if not rows:
        return
    accuracy, change = rows[-1]["train_accuracy"], rows[-1]["weight_change"]
    if stop.train_accuracy is not None and accuracy >= stop.train_accuracy:
        yield (f"train accuracy {accuracy:.2%}, at least {stop.train_accuracy:.2%} (stop.train_accuracy)")
    if stop.weight_change is not None and change < stop.weight_change:
        yield (
            f"the weights moved by {change:.2g} of their length, less than "
            f"{stop.weight_change:.2g} (stop.weight_change)"
        )
    if stop.patience is not None:
        best = last_improvement(rows, held_out, stop.min_delta)
        waited = rows[-1]["epoch"] - best["epoch"]
        if waited >= stop.patience:
            if stop.min_delta:
                lower = f"{held_out} loss lower by more than {stop.min_delta:g}"
            else:
                lower = f"lower {held_out} loss"
            yield (
                f"no {lower} than the {best[f'{held_out}_loss']:.4f} of epoch "
                f"{best['epoch']} for {_epochs(waited)} (stop.patience)"
            )


def last_improvement(rows: Rows, held_out: str, min_delta: float = 0.0) -> Mapping[str, Any]:
    """The row of the last epoch whose loss on the watched images was lower by more than `min_delta` than the one
    of this kind before it; with 0, that of the lowest loss.
    """
    key = f"{held_out}_loss"
    best = rows[0]
    for row in rows[1:]:
        if row[key] < best[key] - min_delta:
            best = row
    return best


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"
