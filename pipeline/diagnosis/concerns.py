"""Lists what should worry a reader beside the verdict, which it does not change."""

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import Concern
from pipeline.metrics.split_shift import split_shifts


def concerns(dataset: DatasetRecord) -> list[Concern]:
    """The concerns about a training on `dataset`, each with its evidence and one step to take."""
    return [
        Concern(
            name="split_shift",
            evidence=f"{dataset.classes[shift.label]!r} is {shift.share:.1%} of {shift.split} "
            f"and {shift.train_share:.1%} of train",
            interval=Interval(value=shift.share - shift.train_share, low=shift.low, high=shift.high),
            step="compare balanced accuracies, and draw the splits anew: prepare.seed=1, or, where the source gives them, "
            "its images in one folder for each class",
        )
        for shift in split_shifts(dataset.counts)[:1]
    ]
