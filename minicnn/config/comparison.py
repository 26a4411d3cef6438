"""Several networks under one configuration, which has `networks`, a name for each, in the place of `network`."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from minicnn import own_code
from minicnn.config import yaml_file as yaml_tree
from minicnn.config.settings import Settings, dump_groups, dump_network
from minicnn.console import info
from minicnn.errors import ConfigError
from minicnn.validation import show, validated

#: Each network has a folder of that name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Comparison:
    """The settings of each network, by its name; they differ in `network` only."""

    settings: Mapping[str, Settings]

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Self:
        """Groups of settings as in a file; a network that is null is left out.

        Raises ConfigError, one line for each thing that is wrong.
        """
        networks = tree["networks"]
        if "network" in tree:
            raise ConfigError("network: expected either it or networks, received both")
        if isinstance(networks, dict):
            networks = {name: network for name, network in networks.items() if network is not None}
        if not networks or not isinstance(networks, dict):
            raise ConfigError(
                "networks: expected names, each with the init and layers of a network, "
                f"received {show(tree['networks'])}"
            )
        wrong = [name for name in networks if not NAME.fullmatch(name)]
        if wrong:
            raise ConfigError(f"networks: expected names of letters, digits, - and _, received {show(wrong[0])}")
        others = {group: values for group, values in tree.items() if group != "networks"}
        settings, problems = {}, []
        for name, network in networks.items():
            try:
                with _naming(name):
                    settings[name] = validated(Settings, {"network": network, **others})
            except ConfigError as error:
                problems += str(error).splitlines()
        if problems:  # what is wrong in the other groups is wrong for every network
            raise ConfigError("\n".join(dict.fromkeys(problems)))
        return cls(settings)

    @property
    def first(self) -> Settings:
        return next(iter(self.settings.values()))

    def heading(self, name: str) -> str:
        """The line above what is said about one of the networks."""
        number = list(self.settings).index(name) + 1
        line = f"== {name}, network {number} of {len(self.settings)} =="
        return line if number == 1 else "\n" + line

    def each(self, action: Callable[[Settings], object], aloud: bool = True) -> None:
        """Does something for each network in turn; a ConfigError then names the network."""
        for name, settings in self.settings.items():
            if aloud:
                info(self.heading(name))
            with _naming(name):
                action(settings)

    def dump(self) -> str:
        """The YAML text of all settings, defaults included; `of` makes the same of it."""
        networks = {name: dump_network(one.network) for name, one in self.settings.items()}
        others = self.first.model_dump(mode="json", exclude={"network"})
        return dump_groups({"networks": networks, **others})


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors about network.layers are about networks.<name>.layers."""
    try:
        yield
    except ConfigError as error:
        lines = str(error).splitlines()
        text = "\n".join(re.sub(r"^network(?=[.:])", f"networks.{name}", line) for line in lines)
        raise ConfigError(text) from None


def is_comparison(run: Path) -> bool:
    """Whether the folder is one of several networks."""
    try:
        return "networks" in yaml_tree.read(run / "config.yaml")
    except ConfigError:
        return False


def changed(run: Path, overrides: Sequence[str]) -> Comparison:
    """The comparison in a folder, with settings replaced. Raises ConfigError for those of networks, which must stay."""
    tree = yaml_tree.read(run / "config.yaml")
    own_code.load_from(run, own_code.names_in(tree), run)
    for assignment in overrides:
        if assignment.split(".")[0].split("=")[0] in ("network", "networks"):
            raise ConfigError(f"networks: expected those of the run so far, received the change {assignment}")
        yaml_tree.override(tree, assignment)
    return Comparison.of(tree)
