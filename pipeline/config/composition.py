"""Composes the configuration without running anything."""

from pathlib import Path

from pipeline.config import params, validation
from pipeline.config.schema import Config
from pipeline.errors import ConfigError


def compose(conf: Path, params_file: Path, overrides: list[str]) -> Config:
    """The validated configuration of `conf/` < `params.yaml` < `overrides`.

    Raises:
        ConfigError: A key, an option or a value does not fit the schema.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
            composed = hydra_compose("config", params.hydra_overrides(conf, params_file, overrides))
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/ must compose with {params_file.name}; {' '.join(str(error).split())}") from None
    return validation.validate(values)  # type: ignore[arg-type]
