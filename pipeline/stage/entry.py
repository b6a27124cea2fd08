"""Starts a stage: from DVC with `--config build/config.yaml`, or by hand with Hydra's command line.

python -m pipeline.train --config build/config.yaml     writes build/train; inputs are DVC's
python -m pipeline.train model=convnet                  writes outputs/train/<time>; inputs fit this configuration
python -m pipeline.train -m model=lenet,convnet         writes multirun/train/<time>/0, 1, …
python -m pipeline.train --resume multirun/train/<time> completes a sweep that was killed
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import composition, validation
from pipeline.config.schema import Config
from pipeline.stage import lineage, signals
from pipeline.stage.job import Job
from pipeline.stage.program import as_program
from pipeline.stage.signals import messages
from pipeline.storage import atomic, checksums, lock

Main = Callable[[Job], Callable[[], None] | None]
"""Fills `job.out`; may return what is left to do once the output is in its place."""

RunJob = Callable[[Any, tuple[str, ...], Path], None]
"""Runs a stage: takes what Hydra composed, the overrides that the user gave, and the folder to fill."""

Multirun = Callable[[str, list[str], RunJob], None]
"""Runs many jobs of a stage: takes its name, the arguments of the command line, and what runs one job."""


def run(stage: str, main: Main, multirun: Multirun, after: Callable[[Config], None] = lambda config: None) -> None:
    """Run `main`, or `multirun` for a sweep, as the process's whole work, with errors as messages and an exit code.

    `after` is called at the end of a stage that DVC runs, whether there was something to do or not.
    """
    with as_program():
        flags = {argument.partition("=")[0] for argument in sys.argv}
        if "--config" in flags:
            run_from_file(stage, main, sys.argv[1:], after)
        elif {"-m", "--multirun", "--resume"} & flags:
            multirun(stage, sys.argv[1:], run_job(stage, main))
        else:
            _run_by_hand(stage, main, sys.argv[1:])


def run_from_file(
    stage: str, main: Main, arguments: list[str], after: Callable[[Config], None] = lambda config: None
) -> None:
    """Run a stage with a configuration that `compose` wrote: under DVC, or into a folder below `build/cache/`."""
    parser = argparse.ArgumentParser(prog=f"python -m pipeline.{stage}")
    parser.add_argument("--config", type=Path, required=True, help="a configuration that `compose` wrote")
    parser.add_argument("--out", type=Path, help="folder to write, with inputs that fit; default: DVC's")
    options = parser.parse_args(arguments)
    config = validation.load(options.config)
    if options.out is None:
        build = options.config.absolute().parent
        with lock.held(build / stage):
            _run_in_dvc(stage, main, config, build)
        after(config)
        return
    with lock.held(options.out, wait=True):
        name = lineage.expected_fingerprint(stage, config)
        if lineage.recorded_fingerprint(options.out) != name:
            locate = partial(lineage.locate, config=config)
            _deliver(stage, main, options.out, lambda scratch: Job(config, scratch, name, lineage.CACHE, locate))


def _run_in_dvc(stage: str, main: Main, config: Config, build: Path) -> None:
    folders = {name: lineage.dvc_folder(name, build.parent) for name in lineage.RECORDS}
    upstream = {name: lineage.content(name, folders[name]) for name in lineage.upstream(stage, config)}
    name = lineage.fingerprint(stage, config, upstream)
    out = build.parent / "downloads" if stage == "fetch" else build / stage
    if stage == "fetch" and lineage.recorded_fingerprint(out) == name and lineage.is_whole(out):
        print("fetch: nothing has changed")
        return

    def locate(name: str) -> Path:
        return lineage.whole(name, folders[name])

    _deliver(stage, main, out, lambda scratch: Job(config, scratch, name, lineage.CACHE, locate))


def _run_by_hand(stage: str, main: Main, arguments: list[str]) -> None:
    """Compose with Hydra, the overrides of `params.yaml` before the user's own, and run the job."""
    import hydra

    flags = [argument for argument in arguments if argument.startswith("-")]
    mine = [argument for argument in arguments if not argument.startswith("-")]
    overrides = composition.hydra_overrides(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", mine)
    num_from_file = len(overrides) - len(mine)

    if not flags:
        Path("outputs", stage).mkdir(parents=True, exist_ok=True)  # where that fails, Hydra would show its own frames

    def task(composed: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        out = Path(HydraConfig.get().runtime.output_dir)
        given = overrides_of_job()[num_from_file:]
        try:
            with messages():
                _run_job(stage, main, composed, tuple(text.removeprefix("++") for text in given), out, alone=True)
        finally:
            with suppress(OSError):
                out.rmdir()  # empty, where Hydra made it for a job that was refused

    sys.argv = [sys.argv[0], *flags, f"hydra.job.name={stage}", *overrides]
    hydra.main(version_base="1.3", config_path=str(lineage.PROJECT / "conf"), config_name="config")(task)()


def overrides_of_job() -> list[str]:
    """The overrides of the job that Hydra runs, as they were written; reading them one by one resolves `${oc.env:NAME}`."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    written: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
    return list(written)


def run_job(stage: str, main: Main) -> RunJob:
    """Turn `main` into the function that a sweep calls for each of its jobs."""
    return partial(_run_job, stage, main)


def _run_job(
    stage: str, main: Main, composed: Any, overrides: tuple[str, ...], out: Path, *, alone: bool = False
) -> None:
    config = validation.validate(composition.plain(composed))
    name = lineage.expected_fingerprint(stage, config) if stage in lineage.UPSTREAM else ""
    if name and lineage.recorded_fingerprint(out) == name:
        return  # a sweep was killed between the end of this job and its record
    locate, place = partial(lineage.locate, config=config), Path(os.path.relpath(out))
    _deliver(
        stage, main, out, lambda scratch: Job(config, scratch, name, lineage.CACHE, locate, overrides, place, alone)
    )


def _deliver(stage: str, main: Main, out: Path, make_job: Callable[[Path], Job]) -> None:
    with atomic.folder(out) as scratch:
        job = make_job(scratch)
        afterwards = main(job)
        if job.fingerprint:
            (scratch / lineage.FINGERPRINT).write_text(job.fingerprint + "\n")
        if stage != "fetch":  # its own record has the checksums of its files
            checksums.seal(scratch)
        if signals.received:  # it came where Python drops exceptions, such as in a library's callback
            raise KeyboardInterrupt
    if job.place is not None:
        print(f"written to {job.place}")
    if afterwards is not None:
        afterwards()
