"""The average of the weights that an optimizer goes through."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minicnn.engine.work import Input, Work
from minicnn.kernels import CHUNK
from minicnn.layers.parameter import Parameter

from .rule import Rule, Share, kernels, pieces


class EMA(Rule):
    """Exponential moving average of parameters, which often does better on new data than the last ones do:

        a = w  at the first update, then  a = decay a + (1 - decay) w

    To be updated after each step of the optimizer; what a layer keeps besides parameters is not averaged. The same
    as torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn(decay). Raises ConfigError unless 0 <= decay < 1.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); with this weighting,
    Tarvainen and Valpola, Mean teachers are better role models (2017), section 2.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: Share) -> None:
        self.parameters = parameters  # type: ignore[assignment] # which makes a tuple of them
        self.decay = decay
        self.updates = 0
        #: The averages of all parameters, one behind the other; before the first update, the parameters.
        self.average = np.concatenate([value for value, *_ in pieces(self.parameters)])

    def update(self) -> None:
        """Takes in the parameters as they are now."""
        self.average = self.average.astype(self.parameters[0].value.dtype, copy=False)  # after astype of a network
        if self.updates:
            self._run(share=1 - self.decay)
        else:
            np.concatenate([value for value, *_ in pieces(self.parameters)], out=self.average)
        self.updates += 1

    def work(self) -> Work:
        work = self._new_work()
        average, share = work.array(self, "average"), Input("share", "r")
        for value, _, part in pieces(self.parameters):
            arguments = (average[part], value, share, value.size)
            work.after(kernels.move_towards, *arguments, tasks=-(-value.size // CHUNK), grain=4)
        return work

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None, "average": self.average.copy()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the parameters have the averages as their values."""
        places = [(value, part) for value, _, part in pieces(self.parameters)]
        own = [value.copy() for value, _ in places]
        for value, part in places:
            value[...] = self.average[part]
        try:
            yield
        finally:
            for (value, _), kept in zip(places, own, strict=True):
                value[...] = kept
