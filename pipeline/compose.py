"""Compose the configuration: `conf/` with what `params.yaml` and the command line choose.

Reads `conf/` and `params.yaml`; writes one YAML file of which every later stage tracks only its own keys.

    python -m pipeline.compose model=convnet              print the resolved configuration
    python -m pipeline.compose --out build/config.yaml    write it, as `dvc repro` does
"""

import argparse
from pathlib import Path

from pipeline.config import params, validate
from pipeline.config.schema import Config
from pipeline.storage import atomic, lineage


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

    from pipeline.config.errors import ConfigError

    try:
        with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
            composed = hydra_compose("config", params.hydra_overrides(conf, params_file, overrides))
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/ must compose with {params_file.name}; {' '.join(str(error).split())}") from None
    return validate.validate(values)  # type: ignore[arg-type]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.compose", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="key=value, as on Hydra's command line")
    parser.add_argument("--out", type=Path, help="file to write; without it the configuration is printed")
    options = parser.parse_args(arguments)
    config = compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", options.overrides)
    if options.out is None:
        print(lineage.as_yaml(config), end="")
    else:
        atomic.write_text(options.out, lineage.as_yaml(config))


if __name__ == "__main__":
    from pipeline.config.entry import messages

    with messages():
        main()
