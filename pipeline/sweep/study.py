"""Searches with Optuna: proposes the next jobs of a sweep, and prunes those that are not worth finishing.

The study is a journal in the sweep's folder, which jobs in other processes read and write too. A job has the number of
its trial. The sampler draws from its seed, the trial's number and the results so far alone, so that a sweep which was
killed between two jobs goes on as if it had not been.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, DataError
from pipeline.metrics import history
from pipeline.storage import checksums, processes
from pipeline.sweep import pruning

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_JOURNAL = "study.log"


def check(folder: Path, config: Any, from_file: frozenset[str]) -> None:
    """Refuse what cannot be searched, before anything runs.

    Args:
        folder: Folder of the sweep.
        config: Configuration that Hydra composed, its own section included.
        from_file: Overrides that come from `params.yaml`.

    Raises:
        ConfigError: Optuna is not installed, nothing is searched, or the sampler is not known.
    """
    open_study(folder, config.train.monitor)
    search_space(config.hydra.sweeper.params, config.hydra.overrides.task, from_file, config)
    make_sampler(config.hydra.sweeper.sampler, 0)


def num_at_once(hydra: Any) -> int:
    """Number of jobs of a study that start together, by the section `hydra` of the configuration."""
    if hydra.sweeper.at_once is not None:
        return int(hydra.sweeper.at_once)
    return processes.num_at_once(hydra.launcher.n_jobs, hydra.launcher.backend) if "n_jobs" in hydra.launcher else 1


def open_study(folder: Path, monitor: str) -> "Study":
    """The study of the sweep in `folder`, made where there is none.

    Raises:
        ConfigError: Optuna is not installed.
        DataError: The journal is damaged.
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
    direction = StudyDirection.MAXIMIZE if history.higher_is_better(monitor) else StudyDirection.MINIMIZE
    try:
        storage = JournalStorage(JournalFileBackend(str(folder / _JOURNAL)))
        return optuna.create_study(storage=storage, study_name="sweep", direction=direction, load_if_exists=True)
    except OSError:
        raise
    except Exception as error:  # of noise, Optuna raises nearly anything
        raise DataError(
            f"{folder / _JOURNAL} must be the journal of a study; it cannot be read: {checksums.reason_of(error)}. What was "
            "learned is lost with it: start the sweep again without --resume."
        ) from None


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
    """The search space and the common overrides: `params.yaml` < the sweeper's `params` < the command line.

    Args:
        params: Values to search of each key, in Hydra's grammar, from the sweeper's section.
        arguments: Overrides of `params.yaml` and of the command line.
        from_file: Overrides among them that come from `params.yaml`.
        config: Configuration that the jobs start from. An interval has whole numbers where the key holds one here, else
            fractions.

    Raises:
        ConfigError: Nothing is searched.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parse = OverridesParser.create().parse_override
    file = [parse(text) for text in arguments if text in from_file]
    own = [parse(text) for text in arguments if text not in from_file]
    given = {_key(override) for override in own}
    own += [parse(f"{key}={value}") for key, value in params.items() if key not in given]
    space = {_key(override): _distribution(override, config) for override in own if override.is_sweep_override()}
    if not space:
        raise ConfigError(
            "a sweep with Optuna must search something; got no interval, range or choice. "
            "Give one, such as model.dropout='interval(0,0.6)'."
        )
    below = tuple(f"{key}." for key in space)  # the keys of a group belong to the option that params.yaml chose
    kept = [override for override in file if _key(override) not in space and not _key(override).startswith(below)]
    return space, [str(override.input_line) for override in (*kept, *own) if _key(override) not in space]


def make_judge(
    folder: Path, monitor: str, startup_trials: int, warmup_epochs: int, number: int, max_epochs: int
) -> pruning.Judge:
    """A judge that prunes a job whose best so far is worse than the median of the others' (Golovin et al. 2017).

    Args:
        folder: Folder of the sweep.
        monitor: Metric that decides.
        startup_trials: Number of jobs that finish before one is pruned.
        warmup_epochs: Number of epochs in which none is pruned.
        number: Number of the job.
        max_epochs: Last epoch, after which there is nothing left to save.
    """
    from optuna.pruners import MedianPruner
    from optuna.trial import Trial

    study = open_study(folder, monitor)
    study.pruner = MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs + 1)
    known = study.get_trials(deepcopy=False)[number]
    trial = Trial(study, known._trial_id)

    def judge(row: dict[str, float]) -> None:
        epoch = int(row["epoch"])
        if epoch not in known.intermediate_values:  # a training that goes on shows its earlier rows again
            trial.report(row[monitor], epoch)
        if epoch < max_epochs and trial.should_prune():
            raise pruning.Pruned(f"{monitor} was worse than the median of the others at epoch {epoch}")

    return judge


def overrides_of(study: "Study", number: int) -> list[str]:
    """The values of a trial as overrides."""
    params = study.get_trials(deepcopy=False)[number].params
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def make_sampler(name: str, seed: int) -> "BaseSampler":
    """The sampler with this name.

    Raises:
        ConfigError: There is none.
    """
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
