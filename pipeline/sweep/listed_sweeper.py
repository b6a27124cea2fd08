"""A sweep whose jobs are a list, each with overrides of its own: what commands launch that ask one question of many jobs."""

from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from pipeline.sweep import records
from pipeline.sweep.overrides import by_origin


class ListedSweeper(Sweeper):
    """Hydra's interface to it; the list lies in the sweep's folder."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.folder, self.stage = Path(config.hydra.sweep.dir), config.hydra.job.name
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        source, jobs = self.folder / ".source", []
        common = [text for text in records.read_request(self.folder, self.stage) if not text.startswith("hydra")]
        for own in records.read_jobs(self.folder):  # each drops what it replaces of params.yaml, as a command line does
            from_file, given = by_origin(source / "conf", source / "params.yaml", [*common, *own])
            jobs.append([*from_file, *given])
        self.launcher.launch(jobs, initial_job_idx=0)
