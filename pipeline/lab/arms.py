"""The arms of an ablation: from the section `ablate` of the configuration to the overrides of each training."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pipeline.config.schema import Config
from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.lab.session import Compose
from pipeline.metrics.ablation import BASELINE
from pipeline.metrics.early_stopping import StoppingRule

TO_THE_END = ("train.early_stopping.patience=null", "train.early_stopping.restore_best=false")
"""Every arm is trained for the same steps: what early stopping would have kept is read off the curves."""

_EARLY_STOPPING = "train.early_stopping."
_MULTIPLE = re.compile(r"x(\d+(?:\.\d+)?|\.\d+)")


@dataclass(frozen=True)
class Plan:
    """One arm before it is trained.

    Attributes:
        name: `baseline`, or what is changed.
        overrides: That make it from the baseline.
        rule: Which epoch counts.
    """

    name: str
    overrides: tuple[str, ...]
    rule: StoppingRule

    def training(self, seed: int) -> tuple[str, ...]:
        """The overrides of a training that runs to its end."""
        kept = (override for override in self.overrides if not override.startswith(_EARLY_STOPPING))
        return (*TO_THE_END, *kept, f"seed={seed}")

    def deployed(self, seed: int) -> tuple[str, ...]:
        """The overrides of a training that ends as the arm says, and keeps the weights that count."""
        return (*TO_THE_END, *self.overrides, f"seed={seed}")


def plans(arms: Mapping[str, Iterable[str]], compose: Compose, only: Iterable[str] | None = None) -> list[Plan]:
    """The baseline and the arms, each of which composes.

    Args:
        arms: Overrides by name; `key=x0.5` stands for half of what the baseline has, a name for what that arm changes.
        compose: Gives a configuration.
        only: The names of those to plan; None: all.

    Raises:
        ConfigError: An arm does not exist, does not compose, multiplies what is no number, or names an arm that there is not.
    """
    baseline = compose(list(TO_THE_END))
    values = baseline.model_dump()
    planned = [Plan(BASELINE, (), _rule(baseline))]
    for name in arms if only is None else only:
        if name not in arms:
            raise ConfigError(f"ablate.only must name arms, {', '.join(arms)}; got {name!r}.{nearest(name, arms)}")
        try:
            resolved = tuple(_resolved(override, values) for override in _spelled_out(arms[name], arms))
            config = compose([*TO_THE_END, *resolved])
        except ConfigError as error:
            raise ConfigError(f"ablate.arms.{name} must fit the baseline; {error}") from None
        planned.append(Plan(name, resolved, _rule(config)))
    return planned


def _spelled_out(overrides: Iterable[str], arms: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The overrides with each name of an arm replaced by that arm's."""
    for override in overrides:
        if "=" in override:
            yield override
        elif override in arms:
            yield from arms[override]
        else:
            raise ConfigError(f"it holds {override!r}, which is neither key=value nor an arm.{nearest(override, arms)}")


def _resolved(override: str, baseline: Mapping[str, Any]) -> str:
    """The override with a multiple replaced by its value.

    >>> _resolved("model.width=x0.5", {"model": {"width": 16}}), _resolved("model.dropout=0.5", {})
    ('model.width=8', 'model.dropout=0.5')
    """
    key, _, value = override.partition("=")
    multiple = _MULTIPLE.fullmatch(value)
    if multiple is None:
        return override
    try:
        found = reduce(lambda values, part: values[part], key.split("."), baseline)
    except (KeyError, TypeError):
        found = None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{override} must multiply a number of the baseline; it has {key}={found!r}.")
    product = found * float(multiple[1])
    return f"{key}={max(1, round(product)) if isinstance(found, int) else product}"


def _rule(config: Config) -> StoppingRule:
    return StoppingRule(config.train.monitor, **config.train.early_stopping.model_dump())
