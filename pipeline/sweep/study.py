"""Sweeps that learn from their jobs: Optuna proposes the next ones and says which are not worth finishing.

The study is a journal in the sweep's folder, which jobs in other processes read and write too. A job has the number of
its trial. What the sampler draws is a function of its seed, the trial's number and the results so far, so that a sweep
which was killed between two jobs goes on as if it had not been.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from pipeline.errors import ConfigError
from pipeline.metrics import history
from pipeline.seeds import derive_seed
from pipeline.sweep import pruning, records

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_JOURNAL = "study.log"


class OptunaSweeper(Sweeper):
    """Hydra's interface to it; `conf/hydra/sweeper/optuna.yaml` tells what the arguments mean."""

    def __init__(
        self, num_trials: int, at_once: int | None, sampler: str, seed: int, pruning: Any, params: dict[str, str]
    ) -> None:
        self.num_trials, self.sampler, self.seed, self.pruning, self.params = num_trials, sampler, seed, pruning, params

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.folder, self.monitor = Path(config.hydra.sweep.dir), config.train.monitor
        self.at_once = side_by_side(config.hydra)
        self.from_file = task_function.from_file
        if self.pruning is not None:
            rule = self.pruning.startup_trials, self.pruning.warmup_epochs
            task_function = replace(task_function, make_judge=partial(judge, self.folder, self.monitor, *rule))
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        space, fixed = search_space(self.params, arguments, self.from_file, self.config)
        study = open_study(self.folder, self.monitor)
        while batch := self._next(study, space):
            jobs = [[*fixed, *_values(study, number), f"hydra.sweep.subdir={number}"] for number in batch]
            self.validate_batch_is_legal(jobs)
            self.launcher.launch(jobs, initial_job_idx=batch[0])
            if not all([self._tell(study, number) for number in batch]):
                return  # some were stopped or skipped: they wait for --resume

    def _next(self, study: "Study", space: dict[str, "BaseDistribution"]) -> list[int]:
        """The trials that a kill interrupted, else new ones; none at the end."""
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        if interrupted := [trial.number for trial in trials if trial.state == TrialState.RUNNING]:
            return interrupted
        batch = range(len(trials), min(len(trials) + self.at_once, self.num_trials))
        for number in batch:
            propose(study, space, _sampler(self.sampler, derive_seed(self.seed, f"trial {number}")))
        return list(batch)

    def _tell(self, study: "Study", number: int) -> bool:
        """Tell Optuna how a job ended; False where it has not."""
        from optuna.trial import TrialState

        out = self.folder / str(number)
        status = records.status(out)
        if status == records.FINISHED:
            best = records.result(out).best
            assert best is not None
            study.tell(number, best[self.monitor])
        elif status in (records.PRUNED, records.FAILED):
            study.tell(number, state=TrialState.PRUNED if status == records.PRUNED else TrialState.FAIL)
        return status in (records.FINISHED, records.PRUNED, records.FAILED)


def check(folder: Path, config: Any, from_file: frozenset[str]) -> None:
    """Refuse what cannot be searched, before anything runs.

    Args:
        folder: The sweep's.
        config: What Hydra composed, its own section included.
        from_file: The overrides that come from `params.yaml`.

    Raises:
        ConfigError: Optuna is not installed, nothing is searched, or the sampler is not known.
    """
    open_study(folder, config.train.monitor)
    search_space(config.hydra.sweeper.params, config.hydra.overrides.task, from_file, config)
    _sampler(config.hydra.sweeper.sampler, 0)


def side_by_side(hydra: Any) -> int:
    """How many jobs of a study start together, by the section `hydra` of the configuration."""
    from joblib import effective_n_jobs

    if hydra.sweeper.at_once is not None:
        return int(hydra.sweeper.at_once)
    return int(effective_n_jobs(hydra.launcher.n_jobs)) if "n_jobs" in hydra.launcher else 1


def open_study(folder: Path, monitor: str) -> "Study":
    """The study of the sweep in `folder`, made where there is none.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "hydra/sweeper must be basic without Optuna; got one that needs it. Run `pip install -e '.[optuna]'`."
        ) from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / _JOURNAL)))
    direction = StudyDirection.MAXIMIZE if history.higher_is_better(monitor) else StudyDirection.MINIMIZE
    return optuna.create_study(storage=storage, study_name="sweep", direction=direction, load_if_exists=True)


def is_study(folder: Path) -> bool:
    """Whether the sweep in `folder` has a study, for which a failure is a result like others."""
    return (folder / _JOURNAL).exists()


def propose(study: "Study", space: dict[str, "BaseDistribution"], sampler: "BaseSampler") -> None:
    """Add a trial with values that `sampler` draws, in one entry of the journal: a kill leaves it whole or out."""
    from optuna import create_study
    from optuna.trial import TrialState, create_trial

    rehearsal = create_study(direction=study.direction, sampler=sampler)
    rehearsal.add_trials(study.get_trials(deepcopy=False))
    drawn = rehearsal.ask(space).params
    study.add_trial(create_trial(state=TrialState.RUNNING, params=drawn, distributions=space))


def search_space(
    params: Mapping[str, str], arguments: Iterable[str], from_file: frozenset[str], config: Any
) -> tuple[dict[str, "BaseDistribution"], list[str]]:
    """What is searched and what is fixed: `params.yaml` < the sweeper's `params` < the command line.

    Args:
        params: The sweeper's: what each key is searched for, in Hydra's grammar.
        arguments: The overrides of `params.yaml` and of the command line.
        from_file: Those among them that come from `params.yaml`.
        config: What the jobs start from. An interval has whole numbers where the key holds one here, else fractions.

    Raises:
        ConfigError: Nothing is searched.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parse = OverridesParser.create().parse_override
    file = [parse(text) for text in arguments if text in from_file]
    own = [parse(text) for text in arguments if text not in from_file]
    taken = {_key(override) for override in own}
    own += [parse(f"{key}={value}") for key, value in params.items() if key not in taken]
    space = {_key(override): _distribution(override, config) for override in own if override.is_sweep_override()}
    if not space:
        raise ConfigError(
            "a sweep with Optuna must search something; got no interval, range or choice. "
            "Give one, such as model.dropout='interval(0,0.6)'."
        )
    below = tuple(f"{key}." for key in space)  # the keys of a group belong to the option that params.yaml chose
    kept = [override for override in file if _key(override) not in space and not _key(override).startswith(below)]
    return space, [str(override.input_line) for override in (*kept, *own) if _key(override) not in space]


def judge(
    folder: Path, monitor: str, startup_trials: int, warmup_epochs: int, number: int, max_epochs: int
) -> pruning.Judge:
    """What prunes the job `number` when its best so far is worse than the median of the others' (Golovin et al. 2017).

    Args:
        folder: The sweep's.
        monitor: The metric that decides.
        startup_trials: Jobs that have finished before one is pruned.
        warmup_epochs: Epochs in which none is pruned.
        number: Of the job.
        max_epochs: The last epoch, after which there is nothing left to save.
    """
    from optuna.pruners import MedianPruner
    from optuna.trial import Trial

    study = open_study(folder, monitor)
    study.pruner = MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs + 1)
    known = study.get_trials(deepcopy=False)[number]
    trial = Trial(study, known._trial_id)

    def look(row: dict[str, float]) -> None:
        epoch = int(row["epoch"])
        if epoch not in known.intermediate_values:  # a training that goes on shows its earlier rows again
            trial.report(row[monitor], epoch)
        if epoch < max_epochs and trial.should_prune():
            raise pruning.Pruned(f"{monitor} was worse than the median of the others at epoch {epoch}")

    return look


def _values(study: "Study", number: int) -> list[str]:
    params = study.get_trials(deepcopy=False)[number].params
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def _sampler(name: str, seed: int) -> "BaseSampler":
    from optuna import samplers

    known = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler}
    if name not in known:
        raise ConfigError(f"hydra.sweeper.sampler must be one of {', '.join(known)}; got {name!r}. Change it in conf/.")
    sampler: BaseSampler = known[name](seed=seed % 2**32)
    return sampler


def _key(override: Any) -> str:
    return str(override.get_key_element()).lstrip("+")


def _distribution(override: Any, config: Any) -> "BaseDistribution":
    from omegaconf import OmegaConf
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if override.is_discrete_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    interval = override.value()
    log = "log" in interval.tags
    # Hydra makes fractions of the ends, unless they are asked for with int(interval(…)).
    takes_whole = isinstance(OmegaConf.select(config, _key(override)), int) or isinstance(interval.start, int)
    if takes_whole and interval.start == int(interval.start) and interval.end == int(interval.end):
        return IntDistribution(int(interval.start), int(interval.end), log=log)
    return FloatDistribution(interval.start, interval.end, log=log)
