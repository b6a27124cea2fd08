"""Reads the command line of a sweep with Hydra's own grammar, and refuses what cannot be launched."""

from math import prod
from pathlib import Path
from typing import Any

from pipeline.config import composition
from pipeline.errors import ConfigError


def by_origin(conf: Path, file: Path, overrides: list[str]) -> tuple[list[str], list[str]]:
    """The overrides of `params.yaml` as Hydra hands them to jobs, less those that the user's replace; and the user's."""
    together = composition.hydra_overrides(conf, file, overrides)
    parsed, num_from_file = parse(together), len(together) - len(overrides)
    keys = {override.get_key_element() for override in parsed[num_from_file:]}
    from_file = [override for override in parsed[:num_from_file] if override.get_key_element() not in keys]
    texts = [f"{override.get_key_element()}={override.get_value_element_as_str()}" for override in from_file]
    return texts, together[num_from_file:]


def check_sweeper(overrides: list[str]) -> None:
    """Refuse a space to search without a sweeper that searches; Hydra's basic one would fail in OmegaConf.

    Raises:
        ConfigError: There is such a space.
    """
    keys = [override.split("=", 1)[0].lstrip("+") for override in overrides]
    spaces = [key for key in keys if key.startswith("hydra.sweeper.params")]
    if spaces and "hydra/sweeper" not in keys:
        raise ConfigError(
            f"{spaces[0]} must belong to a sweeper that searches; got it without one. Add hydra/sweeper=optuna, or give the "
            "values on the command line, such as model.dropout=0,0.3."
        )


def check_launcher(overrides: list[str]) -> None:
    """Refuse the launchers that were replaced by backends of joblib's.

    Raises:
        ConfigError: One is asked for.
    """
    for override in overrides:
        key, _, launcher = override.partition("=")
        if key.lstrip("+") == "hydra/launcher" and launcher in ("ray_local", "ray_cluster"):
            address = "" if launcher == "ray_local" else ", with RAY_ADDRESS=host:port in the environment"
            raise ConfigError(
                f"hydra/launcher must be joblib for jobs on Ray; got {launcher}. Use hydra/launcher=joblib "
                f"hydra.launcher.backend=ray{address}."
            )


def first_job(overrides: list[str]) -> list[str]:
    """The overrides of a sweep's first job, without the intervals that a search draws from."""
    jobs = []
    for text, override in zip(overrides, parse(overrides), strict=True):
        if not override.is_sweep_override():
            jobs.append(text)
        elif override.is_discrete_sweep():
            jobs += [f"{text.partition('=')[0]}={value}" for value in list(override.sweep_string_iterator())[:1]]
    return jobs


def count_jobs(overrides: list[str]) -> int:
    """Number of combinations that Hydra's basic sweeper makes of the values.

    Raises:
        ConfigError: It makes none.
    """
    varied = [override for override in parse(overrides) if override.is_sweep_override()]
    for override in varied:
        text = override.input_line.lstrip("+")
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.get_key_element().lstrip('+')} must have values to try, such as 0,0.1,0.3; got {text!r}. "
                "Give some, or search the interval with hydra/sweeper=optuna."
            )
        if not list(override.sweep_string_iterator()):
            raise ConfigError(f"each key of a sweep must have a value; got {text!r}. Give it some.")
    return prod(len(list(override.sweep_string_iterator())) for override in varied)


def parse(overrides: list[str]) -> Any:
    """The overrides as Hydra understands them.

    Raises:
        ConfigError: One is not in its grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(f"the command line must be Hydra's; {' '.join(str(error).split())}") from None
