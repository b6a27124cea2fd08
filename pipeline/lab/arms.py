"""Plans the arms of an ablation: the overrides of each training, from the section `ablate` of the configuration."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pipeline.config.schema import Config
from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.lab.session import Compose
from pipeline.lab.trainings import Overrides
from pipeline.metrics.ablation import BASELINE
from pipeline.metrics.early_stopping import StoppingRule

TO_THE_END = ("train.early_stopping.patience=null", "train.early_stopping.restore_best=false")
"""Makes every arm train for the same number of steps; the epoch that early stopping keeps is read off the curves."""

_EARLY_STOPPING = "train.early_stopping."
_MULTIPLE = re.compile(r"x(\d+(?:\.\d+)?|\.\d+)")


@dataclass(frozen=True)
class Plan:
    """One arm before it is trained.

    Attributes:
        name: `baseline`, or the name of the change.
        overrides: Overrides that turn the baseline into this arm.
        rule: Rule that decides which epoch's weights are kept.
    """

    name: str
    overrides: Overrides
    rule: StoppingRule

    def training(self, seed: int) -> Overrides:
        """The overrides of a training that runs to its end."""
        others = (override for override in self.overrides if not override.startswith(_EARLY_STOPPING))
        return (*TO_THE_END, *others, f"seed={seed}")

    def deployed(self, seed: int) -> Overrides:
        """The overrides of a training that stops early where the arm does, and so keeps the weights that are tested."""
        return (*TO_THE_END, *self.overrides, f"seed={seed}")


def plans(arms: Mapping[str, Iterable[str]], compose: Compose, only: Iterable[str] | None = None) -> list[Plan]:
    """Plan the baseline and the arms, and check that each of them composes.

    Args:
        arms: Overrides of each arm by its name; `key=x0.5` stands for half of the baseline's value, the name of another arm
            for that arm's overrides.
        compose: Composes a configuration.
        only: Names of the arms to plan; None: all.

    Raises:
        ConfigError: An arm does not exist, does not compose, multiplies a value that is no number, or names an unknown arm.
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
    """Replace each name of an arm by the overrides of that arm."""
    for override in overrides:
        if "=" in override:
            yield override
        elif override in arms:
            yield from arms[override]
        else:
            raise ConfigError(f"it holds {override!r}, which is neither key=value nor an arm.{nearest(override, arms)}")


def _resolved(override: str, baseline: Mapping[str, Any]) -> str:
    """Replace a multiple of the baseline's value by the product.

    >>> _resolved("model.width=x0.5", {"model": {"width": 16}}), _resolved("model.dropout=0.5", {})
    ('model.width=8', 'model.dropout=0.5')
    """
    key, _, value = override.partition("=")
    multiple = _MULTIPLE.fullmatch(value)
    if multiple is None:
        return override
    try:
        number = reduce(lambda values, part: values[part], key.split("."), baseline)
    except (KeyError, TypeError):
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ConfigError(f"{override} must multiply a number of the baseline; it has {key}={number!r}.")
    product = number * float(multiple[1])
    return f"{key}={max(1, round(product)) if isinstance(number, int) else product}"


def _rule(config: Config) -> StoppingRule:
    return StoppingRule(config.train.monitor, **config.train.early_stopping.model_dump())
