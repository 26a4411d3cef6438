"""Learning rates that change from step to step: pure functions of the step number."""

import math
from collections.abc import Callable, Mapping

from minicnn.errors import ConfigError

Schedule = Callable[[int], float]

#: The options of each schedule with their defaults, None for one that has to be given.
OPTIONS: dict[str, dict[str, float | None]] = {
    "constant": {},
    "step": {"step_size": None, "gamma": 0.1},
    "exponential": {"gamma": None},
    "cosine": {"eta_min": 0.0},
    "one-cycle": {"pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4},
}


def make_schedule(name: str, lr: float, total_steps: int, warmup_steps: int = 0, **options: float) -> Schedule:
    """A function that takes a step number, from 0 to total_steps - 1, and returns the learning rate of that step.

    Below, t is the step number and T the number of steps, both counted from the end of the warm-up.

    - constant: lr
    - step: lr gamma^floor(t / step_size); step_size in steps, gamma 0.1
    - exponential: lr gamma^t; gamma has no default
    - cosine: eta_min + (lr - eta_min) (1 + cos(pi t / T)) / 2; eta_min 0 (Loshchilov and Hutter, SGDR, 2017,
      equation 5, for one period)
    - one-cycle: rises by half a cosine from lr / div_factor (25) to lr, and falls by another to the first rate /
      final_div_factor (1e4). The rise takes the share pct_start (0.3) of all steps (Smith and Topin,
      Super-convergence, 2018; cosines and defaults are those of torch.optim.lr_scheduler.OneCycleLR, but the
      momentum does not change)

    Warm-up: in the first W = warmup_steps steps, the rate is lr (step + 1) / (W + 1). So step W is the first with lr
    itself (Goyal et al., Accurate, large minibatch SGD, 2017, section 2.2, "gradual warmup"). One-cycle warms up by
    itself; there, warmup_steps, if not 0, is the length of the rise, instead of pct_start.

    The rates are those of torch's StepLR, ExponentialLR, CosineAnnealingLR and OneCycleLR, stepped after each batch.
    With warm-up, they are those of a SequentialLR of LinearLR(start_factor=1 / (W + 1), total_iters=W) and one of them.

    Raises ConfigError for an unknown name, an option that the schedule does not have, and numbers out of range.
    """
    values = check_options(name, options, lr, warmup_steps)
    if total_steps < 1:
        raise ConfigError(f"schedule: expected total_steps >= 1, received {total_steps}")
    if not 0 <= warmup_steps <= total_steps:
        raise ConfigError(
            f"schedule: expected warmup_steps from 0 to total_steps, received {warmup_steps} of {total_steps}"
        )
    if name == "one-cycle":
        rise = warmup_steps or values["pct_start"] * total_steps
        return _one_cycle(lr, total_steps, rise, values["div_factor"], values["final_div_factor"])
    curves: dict[str, Callable[[int], float]] = {
        "constant": lambda t: lr,
        "step": lambda t: lr * values["gamma"] ** (t // values["step_size"]),
        "exponential": lambda t: lr * values["gamma"] ** t,
        "cosine": lambda t: _blend(lr, values["eta_min"], t / max(1, total_steps - warmup_steps)),
    }
    curve = curves[name]

    def rate(step: int) -> float:
        if step < warmup_steps:
            return lr * (step + 1) / (warmup_steps + 1)
        return curve(step - warmup_steps)

    return rate


def check_options(name: str, options: Mapping[str, float], lr: float, warmup: float = 0.0) -> dict[str, float]:
    """All options of the schedule `name`: the given ones, and defaults for the others. Raises ConfigError."""
    if name not in OPTIONS:
        raise ConfigError(f"schedule.name: expected one of {', '.join(OPTIONS)}, received {name!r}")
    if not 0 < lr < math.inf:
        raise ConfigError(f"schedule: lr: expected a number > 0, received {lr!r}")
    known = OPTIONS[name]
    limits: dict[str, tuple[str, Callable[[float], bool]]] = {
        "step_size": ("a whole number of steps >= 1", lambda value: value >= 1 and value % 1 == 0),
        "gamma": ("a number above 0, at most 1", lambda value: 0 < value <= 1),
        "eta_min": (f"a number from 0 to lr ({lr:g})", lambda value: 0 <= value <= lr),
        "pct_start": ("a share from 0 to 1", lambda value: 0 <= value <= 1),
        "div_factor": ("a number > 0", lambda value: 0 < value < math.inf),
        "final_div_factor": ("a number > 0", lambda value: 0 < value < math.inf),
    }
    for key, value in options.items():
        if key not in known:
            raise ConfigError(
                f"schedule.{key}: not an option of {name}, whose options are {', '.join(['warmup', *known])}"
            )
        wanted, good = limits[key]
        if not good(value):
            raise ConfigError(f"schedule.{key}: expected {wanted}, received {value!r}")
    for key, default in known.items():
        if default is None and key not in options:
            raise ConfigError(f"schedule.{key}: expected a value with {name}, it is missing")
    if warmup and "pct_start" in options:
        raise ConfigError(
            "schedule.pct_start: expected either it or a warm-up, which is the length of the way "
            f"up of one-cycle, received both ({options['pct_start']:g} and {warmup:g})"
        )
    defaults = {key: default for key, default in known.items() if default is not None}
    return defaults | dict(options)


def _blend(start: float, stop: float, progress: float) -> float:
    """From `start` to `stop` by half a cosine, as progress goes from 0 to 1; then it stays there."""
    return stop + (start - stop) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _one_cycle(lr: float, total_steps: int, rise: float, div_factor: float, final_div_factor: float) -> Schedule:
    first, last = lr / div_factor, lr / div_factor / final_div_factor
    top, end = rise - 1, total_steps - 1  # the steps that have the highest rate and the lowest

    def rate(step: int) -> float:
        if step <= top:
            return _blend(first, lr, step / top if top > 0 else 1.0)
        return _blend(lr, last, (step - top) / (end - top) if end > top else 1.0)

    return rate
