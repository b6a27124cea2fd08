"""Runs the repetitions of configurations within a budget, diagnoses them, and measures them on images to confirm on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Config
from pipeline.diagnosis import Course, diagnose
from pipeline.diagnosis.concerns import is_hardly_recognised
from pipeline.diagnosis.pooling import pooled
from pipeline.errors import ConfigError, UserError
from pipeline.evaluation.accuracy import labels_of, right_on
from pipeline.evaluation.course import chosen_thresholds, course_of, source_side
from pipeline.lab import live
from pipeline.lab.repetition import FEW, Confirmed, Folds, Repetition, Seeds
from pipeline.lab.session import Session
from pipeline.lab.trainings import Budget, Overrides
from pipeline.lab.treatment import DiagnosedTraining
from pipeline.metrics import history
from pipeline.stage import lineage
from pipeline.storage.tables import read_parquet_column
from pipeline.tracking import tags as names

if TYPE_CHECKING:
    from pipeline.lab.foresight import Seconds


class Trials:
    """The repetitions of the configurations of a cure: each the overrides of one, with a seed at the end.

    Attributes:
        repetition: Seeds or folds; makes the trainings of a repetition and compares their accuracies.
        budget: Budget of the cure.
        num_images: Number of training images of the user's configuration.
        source_side: Median of the longer sides of the source's images in pixels; None where `prepare` has not kept them.
    """

    def __init__(self, session: Session, config: Config) -> None:
        self.session, self.trainings, self.config = session, session.trainings, config
        self.budget = Budget(self.trainings, config.cure.max_runs, config.cure.max_minutes, self._foreseen)
        self._thresholds = chosen_thresholds(config)
        prepared = lineage.locate("prepare", config)
        self._dataset = DatasetRecord.read(prepared)
        self.repetition = _repetition(config, self._dataset)
        self.num_images, self.source_side = sum(self._dataset.counts["train"]), source_side(prepared)
        self._diagnosed: dict[tuple[Overrides, float, bool], DiagnosedTraining] = {}

    def settings(self, overrides: Overrides) -> Mapping[str, Any]:
        """The configuration of a repetition as nested mappings."""
        settings = self.session.compose(overrides).model_dump()
        if isinstance(self.repetition, Folds):
            settings["prepare"]["folds"] = self.repetition.folds
        return settings

    def parts(self, selected: Sequence[Overrides]) -> list[Overrides]:
        """The trainings of repetitions."""
        return [part for overrides in selected for part in self.repetition.trainings(overrides)]

    def run(self, selected: Sequence[Overrides]) -> None:
        """Run the trainings that have not been run.

        Raises:
            BudgetSpent: They do not fit into the budget.
        """
        trainings = self.parts(selected)
        self.budget.check(trainings)
        with live.shown(self.trainings, trainings):
            self.trainings.run(trainings, may_diverge=True)

    def fits_images(self, overrides: Overrides) -> bool:
        """Whether the images were large enough for the network of a repetition."""
        return all(map(self.trainings.fits_images, self.parts([overrides])))

    def diagnosed(
        self,
        selected: Sequence[Overrides],
        champion: DiagnosedTraining | None = None,
        *,
        settled: bool = False,
    ) -> list[DiagnosedTraining]:
        """Run what has not been run, and diagnose all.

        Args:
            selected: Overrides of each repetition.
            champion: Training whose accuracy counts as reachable, if any.
            settled: Whether other trainings have shown that more epochs are no better.
        """
        self.run(selected)
        reachable = champion.measured("val_accuracy") if champion else 0.0
        keys = [(overrides, reachable, settled) for overrides in selected]
        for key in keys:
            if key not in self._diagnosed:
                self._diagnosed[key] = self._diagnose(*key)
        return [self._diagnosed[key] for key in keys]

    def unrecognised(self, overrides: Overrides) -> list[str]:
        """The classes of which a repetition hardly ever recognises a validation image."""
        parts = self.parts([overrides])
        if not all(map(self.trainings.has_finished, parts)):
            return []
        right = np.array([value for part in parts for value in self._right(part, "val").values()])
        labels = np.concatenate([labels_of(self.trainings.prepared(part), "val") for part in parts])
        num_classes = len(self._dataset.classes)
        return [
            name
            for number, name in enumerate(self._dataset.classes)
            if is_hardly_recognised(int(right[labels == number].sum()), int((labels == number).sum()), num_classes)
        ]

    def balanced_accuracy(self, overrides: Overrides) -> float:
        """The mean accuracy of the classes on validation images; 0 where the training diverged."""
        parts = self.parts([overrides])
        if not all(map(self.trainings.has_finished, parts)):
            return 0.0
        return fmean(fmean(self._right(part, "val", balanced=True).values()) for part in parts)

    def confirmed(self, selected: Sequence[Overrides], *, balanced: bool = False) -> list[Confirmed]:
        """Each training on the images to confirm on; one that diverged counts as guessing, without a gap.

        Args:
            selected: Overrides of each repetition.
            balanced: Weigh the images so that all classes weigh the same.
        """
        found, split, guessing = [], self.repetition.split, 1 / len(self._dataset.classes)
        for overrides in self.parts(selected):
            if self.trainings.has_finished(overrides):
                right = self._right(overrides, split, balanced=balanced)
                found.append(Confirmed(right, self.trainings.kept_row(overrides)[history.CLEAN_ACCURACY]))
            else:
                prepared = lineage.locate("prepare", self.session.compose(overrides))
                ids = read_parquet_column(prepared / split / "ids.parquet", "id")
                found.append(Confirmed(dict.fromkeys(ids, guessing), guessing))
        return found

    def _right(self, part: Overrides, split: str, *, balanced: bool = False) -> dict[str, float]:
        return right_on(self.trainings.folder_of(part), self.trainings.prepared(part), split, balanced=balanced)

    def _diagnose(self, overrides: Overrides, reachable: float, settled: bool) -> DiagnosedTraining:
        parts = self.parts([overrides])
        if not all(map(self.trainings.has_finished, parts)):
            loss, accuracy = np.array([np.nan]), np.zeros(1)
            diverged = Course(loss, accuracy, loss, accuracy, 1, 1, 2)
            return DiagnosedTraining(overrides, diagnose(diverged), float("inf"))
        courses = [self._course(part, reachable) for part in parts]
        course = pooled(courses) if len(courses) > 1 else courses[0]
        diagnosis = diagnose(replace(course, settled=settled), self._thresholds)
        for part in parts:
            self.session.parent.tag(self.trainings.record(part), {names.VERDICT: diagnosis.verdict})
        return DiagnosedTraining(overrides, diagnosis, float(course.val_loss[(course.kept_epoch or 0) - 1]))

    def _course(self, overrides: Overrides, reachable: float) -> Course:
        folder, prepared = self.trainings.folder_of(overrides), self.trainings.prepared(overrides)
        course = course_of(folder, prepared, self.config.diagnose.reference)
        if course.reference is not None and reachable > course.reference:
            course = course_of(folder, prepared, reachable)
        return course

    def _foreseen(self, overrides: Overrides) -> "Seconds":
        from pipeline.lab import foresight

        try:
            return foresight.foreseen(self.session.compose(overrides), self._dataset)
        except UserError:  # the training will say so
            return foresight.Seconds(0.0, 0.0)


def _repetition(config: Config, dataset: DatasetRecord) -> Repetition:
    """Folds where there are few images to confirm on, seeds elsewhere.

    Raises:
        ConfigError: The budget does not hold one cross-validation.
    """
    wanted, num_confirm = config.cure.folds, sum(dataset.counts["confirm"])
    if wanted is None or num_confirm >= FEW:
        return Seeds()
    by_class = np.sum([dataset.counts[split] for split in ("train", "val", "confirm")], axis=0)
    folds = max(2, min(wanted, int(by_class.min())))
    if config.cure.max_runs < folds:
        raise ConfigError(
            f"cure.max_runs must allow the trainings of a diagnosis, one for each of {folds} folds; got {config.cure.max_runs}."
        )
    smallest = f" (a class has {by_class.min()} images)" if folds < wanted else ""
    print(
        f"{num_confirm} images to confirm on are few: each configuration is judged on {folds} folds{smallest} of the "
        f"{by_class.sum()} images outside of test; cure.folds=null takes seeds instead"
    )
    return Folds(folds)
