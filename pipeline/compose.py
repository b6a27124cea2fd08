"""Compose the configuration: `conf/` with what `params.yaml` and the command line choose.

Reads `conf/` and `params.yaml`; writes one YAML file of which every later stage tracks only its own keys.

    python -m pipeline.compose model=convnet              print the resolved configuration
    python -m pipeline.compose --out build/config.yaml    write it, as `dvc repro` does
"""

import argparse
from pathlib import Path

from pipeline.config import validation
from pipeline.config.composition import compose
from pipeline.stage import lineage
from pipeline.storage import atomic


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.compose", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="key=value, as on Hydra's command line")
    parser.add_argument("--out", type=Path, help="file to write; without it the configuration is printed")
    options = parser.parse_args(arguments)
    config = compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", options.overrides)
    if options.out is None:
        print(validation.as_yaml(config), end="")
    else:
        atomic.write_text(options.out, validation.as_yaml(config))


if __name__ == "__main__":
    from pipeline.stage.entry import messages

    with messages():
        main()
