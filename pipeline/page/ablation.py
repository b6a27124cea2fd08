"""The page of an ablation: what each remedy did, how sure that is, and how it was found out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.metrics.ablation import BASELINE, Arm, Dose, Effect
from pipeline.metrics.paired import Difference, detectable_effect
from pipeline.page import tiles
from pipeline.page.templates import configuration, fill
from pipeline.plotting import ablation as figures


@dataclass(frozen=True)
class Study:
    """What the page tells.

    Attributes:
        dataset: `dataset.json` of what all arms but those with another `prepare` were trained on.
        config: The baseline's configuration.
        baseline: Its trainings.
        effects: Every other arm beside it.
        champion: The name of the arm with the best mean validation accuracy.
        tested: Its accuracy on the test split minus the baseline's; None where the baseline is the champion.
        test_accuracies: Means over the seeds, of the baseline and the champion, by name.
        doses: Strengths that a tuning tried; none where there was no tuning.
        chosen: The override of the strength that each arm takes.
        command: What makes all this again.
        num_trained: Trainings behind it.
        verdicts: What most seeds of each arm have, by its name.
    """

    dataset: Mapping[str, Any]
    config: Mapping[str, Any]
    baseline: Arm
    effects: Sequence[Effect]
    champion: str
    tested: Difference | None
    test_accuracies: Mapping[str, float]
    doses: Sequence[Dose]
    chosen: Mapping[str, str]
    command: str
    num_trained: int
    verdicts: Mapping[str, str]

    @property
    def arms(self) -> list[Arm]:
        return [self.baseline, *(effect.arm for effect in self.effects)]


def headline(study: Study) -> str:
    """Which arm is best, and what the test split says of it."""
    base = study.test_accuracies[BASELINE]
    if study.tested is None:
        return f"No arm is better than the baseline on validation; on the test images it gets {base:.3f}."
    found = study.tested
    return (
        f"Best on validation: {study.champion.replace('_', ' ')}. On the test images, read once, it gets "
        f"{study.test_accuracies[study.champion]:.3f} and the baseline {base:.3f}: "
        f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]."
    )


def render(study: Study) -> str:
    """The page as one HTML file that needs nothing else."""
    pictures = {
        "forest": figures.forest(study.effects),
        "scatter": figures.scatter(study.arms),
        "curves": figures.curves(study.arms),
    }
    if study.doses:
        pictures["doses"] = figures.dose_response(study.doses, study.chosen)
    num_seeds = len(study.baseline.readings)
    return fill(
        "ablation.html",
        study=study,
        baseline=study.baseline,
        effects=study.effects,
        num_seeds=num_seeds,
        num_train=sum(study.dataset["counts"]["train"]),
        num_val=sum(study.dataset["counts"]["val"]),
        num_test=sum(study.dataset["counts"]["test"]),
        detectable=detectable_effect(num_seeds),
        corrected=study.effects[0].gap_p is not None,
        pictures={name: tiles.data_uri(png) for name, png in pictures.items()},
        configuration=configuration(study.config),
    )


def render_tuning(doses: Sequence[Dose], chosen: Mapping[str, str], *, monitor: str, command: str, title: str) -> str:
    """The page of a tuning: what each strength did, and which one each arm takes."""
    return fill(
        "tuning.html",
        doses=doses,
        chosen=chosen,
        monitor=monitor,
        command=command,
        title=title,
        num_seeds=len(doses[0].scores),
        picture=tiles.data_uri(figures.dose_response(doses, chosen)),
    )
