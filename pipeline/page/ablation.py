"""Renders the pages of an ablation and of a tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.metrics.ablation import BASELINE, Arm, Dose, Effect
from pipeline.metrics.paired import Difference, detectable_effect
from pipeline.page import tiles
from pipeline.page.templates import configuration, fill
from pipeline.plotting import ablation as figures


@dataclass(frozen=True)
class AblationResults:
    """The content of the page of an ablation.

    Attributes:
        dataset: Record of the images that the baseline was trained on, and all arms that leave `prepare` unchanged.
        config: Configuration of the baseline.
        baseline: Trainings of the baseline.
        effects: Differences between each other arm and the baseline.
        champion: Name of the arm with the best mean validation accuracy.
        tested: Test accuracy of the champion minus that of the baseline; None where the baseline is the champion.
        test_accuracies: Mean test accuracies of the baseline and the champion, by name.
        doses: Strengths that a tuning tried; empty without a tuning.
        chosen: Override of the strength that each arm takes.
        command: Command that repeats the ablation.
        num_trained: Number of trainings.
        verdicts: Verdict on most seeds of each arm, by its name.
    """

    dataset: DatasetRecord
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


def headline(results: AblationResults) -> str:
    """The best arm on validation, and its accuracy on the test split beside that of the baseline."""
    base = results.test_accuracies[BASELINE]
    if results.tested is None:
        return f"No arm is better than the baseline on validation; on the test images it gets {base:.3f}."
    gain = results.tested
    return (
        f"Best on validation: {results.champion.replace('_', ' ')}. On the test images, read once, it gets "
        f"{results.test_accuracies[results.champion]:.3f} and the baseline {base:.3f}: "
        f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]."
    )


def render(results: AblationResults) -> str:
    """The page of an ablation as one HTML file that needs no other file."""
    pictures = {
        "forest": figures.forest(results.effects),
        "scatter": figures.scatter(results.arms),
        "curves": figures.curves(results.arms),
    }
    if results.doses:
        pictures["doses"] = figures.dose_response(results.doses, results.chosen)
    num_seeds = len(results.baseline.readings)
    return fill(
        "ablation.html", results=results, baseline=results.baseline, effects=results.effects, num_seeds=num_seeds,
        num_train=sum(results.dataset.counts["train"]), num_val=sum(results.dataset.counts["val"]),
        num_test=sum(results.dataset.counts["test"]), detectable=detectable_effect(num_seeds),
        corrected=results.effects[0].gap_p is not None,
        pictures={name: tiles.data_uri(png) for name, png in pictures.items()},
        configuration=configuration(results.config),
    )  # fmt: skip


def render_tuning(doses: Sequence[Dose], chosen: Mapping[str, str], *, monitor: str, command: str, title: str) -> str:
    """The page of a tuning as one HTML file that needs no other file.

    Args:
        doses: Baseline and strengths.
        chosen: Override of the strength that each arm takes.
        monitor: Metric that decides.
        command: Command of an ablation with the chosen strengths.
        title: Network and dataset.
    """
    return fill(
        "tuning.html", doses=doses, chosen=chosen, monitor=monitor, command=command, title=title,
        num_seeds=len(doses[0].scores), picture=tiles.data_uri(figures.dose_response(doses, chosen)),
    )  # fmt: skip
