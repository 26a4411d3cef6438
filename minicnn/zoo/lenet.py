"""LeNet-5 as a list of layers, as it is usually taught and as it was in 1998."""

from minicnn.errors import ConfigError
from minicnn.layers import (
    Conv2d,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    MeanPool,
    RadialBasis,
    ReLU,
    ScaledTanh,
    Subsample,
    Tanh,
)
from minicnn.layers.sequential import Sequential

_ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "tanh": Tanh}
_POOLS: dict[str, type[MaxPool] | type[MeanPool]] = {"max": MaxPool, "mean": MeanPool}


def lenet5(activation: str = "relu", pooling: str = "max", classes: int = 10) -> Sequential:
    """LeNet-5 as it is usually taught, for (1, 28, 28): 61,706 parameters with 10 classes.

    It differs from the network of LeCun et al. (1998), section II.B, in that C3 sees all maps of S2, pooling has no
    parameters and the output is dense (F6, with 84 units, is the layer before it); the 28 x 28 image is padded to
    the 32 x 32 of the paper by C1.
    Raises ConfigError for an unknown activation or pooling.
    """
    if activation not in _ACTIVATIONS or pooling not in _POOLS:
        raise ConfigError(
            f"lenet5: expected activation relu or tanh and pooling max or mean, received {activation!r} and {pooling!r}"
        )
    squash, pool = _ACTIVATIONS[activation], _POOLS[pooling]
    return Sequential(
        [
            Conv2d(1, 6, 5, padding=2),  # C1      (6, 28, 28)
            squash(),
            pool(2),  #                    S2      (6, 14, 14)
            Conv2d(6, 16, 5),  #           C3      (16, 10, 10)
            squash(),
            pool(2),  #                    S4      (16, 5, 5)
            Flatten(),  #                          (400,)
            Dense(400, 120),  #            C5      (120,)
            squash(),
            Dense(120, 84),  #             F6      (84,)
            squash(),
            Dense(84, classes),  #         output  (classes,)
        ]
    )


def lenet5_1998() -> Sequential:
    """LeNet-5 of LeCun et al. (1998), section II.B, for (1, 32, 32): 60,000 trainable parameters, 340,908 connections.

    Its scores are minus the squared distances to the prototypes of the digits (see `RadialBasis`); it is trained with
    `MaximumAPosteriori`, from weights that network.initialize("lecun-1998") draws.
    """
    return Sequential(
        [
            Conv2d(1, 6, 5),  #                           C1      (6, 28, 28)
            ScaledTanh(),
            Subsample(6, 2),  #                           S2      (6, 14, 14)
            ScaledTanh(),
            Conv2d(6, 16, 5, connections="lenet5"),  #    C3      (16, 10, 10)
            ScaledTanh(),
            Subsample(16, 2),  #                          S4      (16, 5, 5)
            ScaledTanh(),
            Conv2d(16, 120, 5),  #                        C5      (120, 1, 1)
            ScaledTanh(),
            Flatten(),  #                                         (120,)
            Dense(120, 84),  #                            F6      (84,)
            ScaledTanh(),
            RadialBasis(84, "digits"),  #                 output  (10,)
        ]
    )
