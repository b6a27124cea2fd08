"""How every stage starts: from DVC with `--config build/config.yaml`, or by hand with Hydra's command line.

python -m pipeline.train --config build/config.yaml     writes build/train; inputs are DVC's
python -m pipeline.train model=convnet                  writes outputs/train/<time>; inputs fit this configuration
python -m pipeline.train -m model=lenet,convnet         writes multirun/train/<time>/0, 1, …
"""

import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.config import composing, params, validate
from pipeline.config.errors import UserError
from pipeline.config.schema import Config
from pipeline.config.stage import Job
from pipeline.storage import atomic, lineage, lock

Main = Callable[[Job], Callable[[], None] | None]
"""Fills `job.out`; may give what is left to do once that is in its place."""

Sweep = Callable[[Path, list[str], Config], AbstractContextManager[None]]

JOB_FILE = "job.json"

_signals: list[int] = []
"""The signals that asked this process to stop."""


def run(stage: str, main: Main, sweep: Sweep | None = None) -> None:
    """Run `main` as the process's whole work, with its errors as messages and its exit code.

    Args:
        stage: Name of the stage.
        main: Does the work of one job.
        sweep: Surrounds all jobs of a multirun; is given the sweep's folder, the user's overrides, and the configuration
            without those that vary.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with messages():
        if "--config" in sys.argv:
            _run_from_file(stage, main, sys.argv[1:])
        elif {"-m", "--multirun"} & set(sys.argv):
            _run_sweep(stage, main, sys.argv[1:], sweep or (lambda folder, overrides, config: nullcontext()))
        else:
            _run_by_hand(stage, main, sys.argv[1:])


def _run_from_file(stage: str, main: Main, arguments: list[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m pipeline.{stage}")
    parser.add_argument("--config", type=Path, required=True, help="a configuration that `compose` wrote")
    parser.add_argument("--out", type=Path, help="folder to write, with inputs that fit; default: DVC's")
    options = parser.parse_args(arguments)
    config = validate.load(options.config)
    if options.out is None:
        build = options.config.absolute().parent
        with lock.held(build / stage):
            _run_in_dvc(stage, main, config, build)
        return
    with lock.held(options.out, wait=True):
        name = lineage.expected_fingerprint(stage, config)
        if lineage.recorded_fingerprint(stage, options.out) != name:
            locate = partial(lineage.locate, config=config)
            _deliver(main, options.out, lambda scratch: Job(config, scratch, name, lineage.CACHE, locate))


def _run_in_dvc(stage: str, main: Main, config: Config, build: Path) -> None:
    folders = {name: lineage.dvc_folder(name, build.parent) for name in lineage.RECORDS}
    upstream = {
        name: lineage.hash_folder(folders[name])
        if name == "fetch"
        else str(lineage.recorded_fingerprint(name, folders[name]))
        for name in lineage.UPSTREAM.get(stage, ())
    }
    name = lineage.fingerprint(stage, config, upstream)
    out = build.parent / "downloads" if stage == "fetch" else build / stage
    _deliver(main, out, lambda scratch: Job(config, scratch, name, lineage.CACHE, folders.__getitem__))


def _run_by_hand(stage: str, main: Main, arguments: list[str]) -> None:
    def task(composed: Any, overrides: tuple[str, ...]) -> None:
        out = _output_folder()
        try:
            with messages():
                _run_job(stage, main, composed, overrides, out)
        finally:
            with suppress(OSError):
                out.rmdir()  # empty, where Hydra made it for a job that was refused

    _hydra(stage, task, lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", arguments)


def _run_sweep(stage: str, main: Main, arguments: list[str], sweep: Sweep) -> None:
    """All jobs compose from a copy of `conf/` and `params.yaml`, so that later edits do not reach jobs that wait."""
    folder = lineage.ROOT / "multirun" / stage / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    source = folder / ".source"
    shutil.copytree(lineage.PROJECT / "conf", source / "conf")
    shutil.copy2(lineage.PROJECT / "params.yaml", source)

    def task(composed: Any, overrides: tuple[str, ...]) -> None:
        out = _output_folder()
        record: dict[str, Any] = {"overrides": overrides, "status": "finished", "error": None}
        begin = time.monotonic()
        try:
            if composed.fail_fast and any(_job_record(path)["status"] == "failed" for path in _job_files(folder)):
                record |= {"status": "skipped", "error": "an earlier job failed and fail_fast is true"}
            else:
                _run_job(stage, main, composed, overrides, out)
        except Exception as error:
            record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
            _show(error)
        gc.collect()  # the trainer and the network refer to each other, and hold mapped files and memory until then
        record["seconds"] = time.monotonic() - begin
        atomic.write_text(out / JOB_FILE, json.dumps(record))

    overrides = [argument for argument in arguments if not argument.startswith("-")]
    fixed = [override for override in overrides if not _varies(override)]
    with sweep(folder, overrides, composing.compose(source / "conf", source / "params.yaml", fixed)):
        _hydra(stage, task, source / "conf", source / "params.yaml", [*arguments, f"hydra.sweep.dir={folder}"])
    failed = [path.parent.name for path in _job_files(folder) if _job_record(path)["status"] != "finished"]
    if failed:
        raise UserError(f"every job of the sweep must finish; {', '.join(failed)} did not, see above and {folder}.")


def _run_job(stage: str, main: Main, composed: Any, overrides: tuple[str, ...], out: Path) -> None:
    from omegaconf import OmegaConf

    config = validate.validate(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]
    name = lineage.expected_fingerprint(stage, config) if stage in lineage.UPSTREAM else ""
    locate = partial(lineage.locate, config=config)
    _deliver(main, out, lambda scratch: Job(config, scratch, name, lineage.CACHE, locate, overrides))
    print(f"written to {os.path.relpath(out)}")


def _deliver(main: Main, out: Path, job: Callable[[Path], Job]) -> None:
    with atomic.folder(out) as scratch:
        afterwards = main(job(scratch))
        if _signals:  # it came where Python drops exceptions, such as in a library's callback
            raise KeyboardInterrupt
    if afterwards is not None:
        afterwards()


def _hydra(
    stage: str, task: Callable[[Any, tuple[str, ...]], None], conf: Path, params_file: Path, arguments: list[str]
) -> None:
    """Hand the command line to Hydra, with the overrides of `params.yaml` before the user's own."""
    import hydra

    flags = [argument for argument in arguments if argument.startswith("-")]
    mine = [argument for argument in arguments if not argument.startswith("-")]
    overrides = params.hydra_overrides(conf, params_file, mine)
    from_file = set(overrides[: len(overrides) - len(mine)])

    def with_overrides(composed: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        given = [override for override in HydraConfig.get().overrides.task if override not in from_file]
        task(composed, tuple(override.removeprefix("++") for override in given))

    sys.argv = [sys.argv[0], *flags, f"hydra.job.name={stage}", *overrides]
    hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(with_overrides)()


def _varies(override: str) -> bool:
    """Whether Hydra makes several jobs of it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).is_sweep_override()


def _output_folder() -> Path:
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def _job_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/{JOB_FILE}"), key=lambda path: int(path.parent.name))


def _job_record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@contextmanager
def messages() -> Iterator[None]:
    """Shows what a user can mend as its message alone, and ends the process with a fitting exit code."""
    try:
        yield
    except UserError as error:
        _show(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; nothing half-written was kept", file=sys.stderr)
        sys.exit(128 + _signals[-1] if _signals else 130)
    except OSError as error:
        if error.errno not in atomic.NO_ROOM:
            raise
        _show(error)
        sys.exit(1)


def _show(error: Exception) -> None:
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno in atomic.NO_ROOM:
        place = error.filename or "the disk"
        free = "Free some, or lower augment.copies or prepare.limit."
        print(f"error: {place} must have room for the stage's output; {error.strerror}. {free}", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _stop(number: int, frame: FrameType | None) -> None:
    _signals.append(number)
    raise KeyboardInterrupt(signal.Signals(number).name)
