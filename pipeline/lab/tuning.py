"""Chooses the strength of each remedy for an ablation, on validation and on seeds that no ablation uses."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config.schema import Ablate
from pipeline.errors import ConfigError, DataError
from pipeline.metrics import history
from pipeline.metrics.ablation import BASELINE, Arm, Dose

FIRST_SEED = 1001
RESULT = "doses.json"


@dataclass(frozen=True)
class Tuning:
    """The strengths that were tried, and the best one of each arm.

    Attributes:
        doses: The baseline, then each strength, from weak to strong.
        chosen: Overrides of the strength with the best mean of the monitored metric, by arm.
    """

    doses: Sequence[Dose]
    chosen: Mapping[str, str]


def candidates(settings: Ablate) -> dict[tuple[str, str], list[str]]:
    """The overrides of each strength, by its arm and its text in the configuration."""
    selected = [arm for arm in settings.doses if settings.only is None or arm in settings.only]
    return {(arm, text): shlex.split(text) for arm in selected for text in settings.doses[arm]}


def choose(arms: Mapping[tuple[str, str], Arm], monitor: str) -> Tuning:
    """Choose the strength of each remedy with the best mean of `monitor`; among equals, the weakest.

    Args:
        arms: Trainings of each strength, by its arm and its text; those of the baseline under `("baseline", "")`.
        monitor: Metric that decides.
    """
    doses = [
        Dose(
            arm=name,
            override=text,
            accuracies=tuple(arm.values("accuracy")),
            train_accuracies=tuple(arm.values("train_accuracy")),
            scores=tuple(reading.row[monitor] for reading in arm.readings),
        )
        for (name, text), arm in arms.items()
    ]
    best = max if history.higher_is_better(monitor) else min
    names = dict.fromkeys(dose.arm for dose in doses if dose.arm != BASELINE)
    by_arm = {name: [dose for dose in doses if dose.arm == name] for name in names}
    chosen = {name: best(tried, key=lambda dose: sum(dose.scores)).override for name, tried in by_arm.items()}
    return Tuning(doses, chosen)


def to_json(tuning: Tuning) -> str:
    """The content of `doses.json`."""
    content = {"doses": [asdict(dose) for dose in tuning.doses], "chosen": dict(tuning.chosen)}
    return json.dumps(content, indent=2) + "\n"


def read(folder: str | None) -> Tuning:
    """Read the tuning in a folder; None: no arm was tuned.

    Raises:
        DataError: The folder holds no tuning.
    """
    if folder is None:
        return Tuning([], {})
    try:
        content = json.loads((Path(folder) / RESULT).read_text())
        numbers = ("accuracies", "train_accuracies", "scores")
        doses = [
            Dose(dose["arm"], dose["override"], *(tuple(dose[name]) for name in numbers)) for dose in content["doses"]
        ]
        return Tuning(doses, content["chosen"])
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(
            f"ablate.tuned must be the folder of a tuning that finished; got {folder!r}, which has no readable {RESULT}. "
            "Make one with `python -m pipeline.ablate --tune`."
        ) from None


def arms(settings: Ablate, tuning: Tuning) -> dict[str, list[str]]:
    """The overrides of each arm, with the strengths that a tuning chose.

    Raises:
        ConfigError: The tuning has an arm that the configuration lacks.
    """
    unknown = [name for name in tuning.chosen if name not in settings.arms]
    if unknown:
        raise ConfigError(
            f"ablate.arms must have the arms of ablate.tuned; it lacks {', '.join(unknown)}. Add them, or tune again."
        )
    return settings.arms | {name: shlex.split(override) for name, override in tuning.chosen.items()}
