"""Tells Hydra the jobs of sweeps that are no grid: a list of jobs, and a search with Optuna."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from pipeline.artefacts.job import FAILED, FINISHED, PRUNED
from pipeline.seeds import derive_seed
from pipeline.sweep import records, study
from pipeline.sweep.overrides import by_origin

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution


class ListedSweeper(Sweeper):
    """Runs the jobs of the list in the sweep's folder."""

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


class OptunaSweeper(Sweeper):
    """Runs the jobs that Optuna proposes; `conf/hydra/sweeper/optuna.yaml` tells what the arguments mean."""

    def __init__(
        self, num_trials: int, at_once: int | None, sampler: str, seed: int, pruning: Any, params: dict[str, str]
    ) -> None:
        self.num_trials, self.sampler, self.seed, self.pruning, self.params = num_trials, sampler, seed, pruning, params

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.folder, self.monitor = Path(config.hydra.sweep.dir), config.train.monitor
        self.at_once = study.num_at_once(config.hydra)
        self.from_file = task_function.from_file
        if self.pruning is not None:
            rule = self.pruning.startup_trials, self.pruning.warmup_epochs
            make_judge = partial(study.make_judge, self.folder, self.monitor, *rule)
            task_function = replace(task_function, make_judge=make_judge)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        space, fixed = study.search_space(self.params, arguments, self.from_file, self.config)
        trials = study.open_study(self.folder, self.monitor)
        while batch := self._next(trials, space):
            jobs = [[*fixed, *study.overrides_of(trials, number), f"hydra.sweep.subdir={number}"] for number in batch]
            self.validate_batch_is_legal(jobs)
            self.launcher.launch(jobs, initial_job_idx=batch[0])
            if not all([self._tell(trials, number) for number in batch]):
                return  # some were stopped or skipped: they wait for --resume

    def _next(self, trials: "Study", space: dict[str, "BaseDistribution"]) -> list[int]:
        """The numbers of the trials that a kill interrupted, else of new ones; none at the end."""
        from optuna.trial import TrialState

        known = trials.get_trials(deepcopy=False)
        if interrupted := [trial.number for trial in known if trial.state == TrialState.RUNNING]:
            return interrupted
        batch = range(len(known), min(len(known) + self.at_once, self.num_trials))
        for number in batch:
            study.propose(trials, space, study.make_sampler(self.sampler, derive_seed(self.seed, f"trial {number}")))
        return list(batch)

    def _tell(self, trials: "Study", number: int) -> bool:
        """Tell Optuna how a job ended; False where it has not."""
        from optuna.trial import TrialState

        out = self.folder / str(number)
        status = records.status(out)
        if status == FINISHED:
            best = records.result(out).best
            assert best is not None
            trials.tell(number, best[self.monitor])
        elif status in (PRUNED, FAILED):
            trials.tell(number, state=TrialState.PRUNED if status == PRUNED else TrialState.FAIL)
        return status in (FINISHED, PRUNED, FAILED)
