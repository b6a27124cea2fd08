"""Reads the command line of a sweep: `-m` starts one, `--resume FOLDER` completes one."""

import argparse
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.stage.entry import Multirun, RunJob

if TYPE_CHECKING:  # Hydra takes 0.3 s to import, and each stage of `dvc repro` would wait for it
    from pipeline.sweep.driver import Surround


def multirun(surround: "Surround" = lambda folder, overrides, config: nullcontext()) -> Multirun:
    """Make the command line of a stage's sweeps; `surround` is entered before the jobs of one, and left after them."""
    return partial(_run, surround)


def _run(surround: "Surround", stage: str, arguments: list[str], run_job: RunJob) -> None:
    from pipeline.sweep import driver

    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{stage}", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "hydra/launcher=joblib runs as many jobs at once as there are cores, with hydra.launcher.backend=ray or dask on a\n"
            "cluster, as hydra/launcher=slurm does; hydra/sweeper=optuna searches intervals instead of trying all\n"
            "combinations. conf/hydra/ says more."
        ),
    )  # fmt: skip
    parser.add_argument("-m", "--multirun", action="store_true", help="a job for each combination of the values")
    parser.add_argument(
        "--resume", type=Path, metavar="FOLDER",
        help="complete the sweep in this folder: finished jobs stay, interrupted ones go on, others run",
    )  # fmt: skip
    parser.add_argument(
        "overrides", nargs="*", help="key=value,value… in Hydra's grammar; with --resume: of hydra/launcher only"
    )
    options = parser.parse_intermixed_args(arguments)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            "torchrun must start a single training; got a sweep. Leave torchrun out: each job starts train.devices "
            "processes itself."
        )
    if options.resume is not None:
        driver.resume(stage, options.resume, options.overrides, run_job, surround)
    else:
        driver.start(stage, options.overrides, run_job, surround)
