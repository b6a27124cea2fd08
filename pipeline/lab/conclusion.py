"""Gathers the results of a cure: its record, the change of params.yaml, its curves, and images to look at."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.rounds import RoundsRecord
from pipeline.diagnosis import DATA_VERDICTS, GOOD_FIT
from pipeline.evaluation import label_audit
from pipeline.evaluation.audited import audited, views
from pipeline.lab import treatment
from pipeline.lab.cure_loop import CureLoop
from pipeline.lab.session import Session
from pipeline.lab.trainings import Overrides, Trainings
from pipeline.metrics.ablation import Arm, Reading
from pipeline.plotting import figures
from pipeline.sweep import adoption

MOST_SUSPECTS = 30
"""Largest number of images to look at."""

MOST_FEATURES = 10_000
"""Largest number of images whose features are computed at the end of a cure, which takes minutes on 2 cores: where the data are
at fault, a fifth elsewhere."""


@dataclass(frozen=True)
class Suspects:
    """Training images whose labels look wrong.

    Attributes:
        found: Result of the label audit.
        method: How the labels were judged.
        num_images: Number of images that were looked at.
        images: The most promising images, uint8 of shape (n, height, width, channels).
        classes: Names of the classes, in the order of the labels.
    """

    found: label_audit.Suspects
    method: str
    num_images: int
    images: NDArray[np.uint8]
    classes: list[str]

    def sentence(self) -> str:
        """The number of labels that look wrong, and the method that found them."""
        share = len(self.found.images) / self.num_images
        return (
            f"Of {self.num_images:,} training images, {share:.0%} look as if they were of another class, to {self.method}; "
            "`python -m pipeline.audit` lists those of all splits but test"
        )

    def picture(self) -> bytes:
        """The images, each with its label and the class that it looks like, as PNG."""
        shown = slice(len(self.images))
        labels, predicted = self.found.labels[shown], self.found.likely[shown]
        confidence = self.found.probability[shown].astype(np.float32)
        return figures.mistakes(self.images, labels, predicted, confidence, self.classes)


def rounds_record(loop: CureLoop) -> RoundsRecord:
    """The record of a cure that has ended; measures what more images promise, where that is worth knowing."""
    before, after = loop.before(), [training.record() for training in loop.champion()]
    more_data = loop.gain_of_second_half()
    return RoundsRecord(
        reason=loop.reason, adopted=list(loop.overrides), folds=loop.trials.repetition.folds,
        before=before, after=after, rounds=loop.rounds,
        more_data=more_data, trainings=len(loop.trainings.requested),
    )  # fmt: skip


def patch(session: Session, loop: CureLoop) -> tuple[str, str]:
    """The change that puts the adopted overrides into `params.yaml`: as a diff, and as the whole new file."""
    file = session.source / "params.yaml"
    old, cured = file.read_text(), session.compose(loop.overrides).model_dump()
    if loop.overrides:  # they were chosen on the confirm split, which thresholds are set on later
        cured["package"]["confirm_chose"] = True
    new = adoption.applied(session.source / "conf", file, cured)
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/params.yaml", "b/params.yaml")
    return "".join(lines), new


def curves(loop: CureLoop, rounds: RoundsRecord) -> list[Arm]:
    """The histories before and after, for a picture; empty where nothing was adopted or a training diverged."""
    if not rounds.adopted:
        return []
    trainings = loop.trainings
    sides = {
        name: loop.trials.parts([tuple(record.overrides) for record in side])
        for name, side in (("before", rounds.before), ("after", rounds.after))
    }
    if not all(trainings.has_finished(overrides) for side in sides.values() for overrides in side):
        return []
    return [_arm(trainings, name, side) for name, side in sides.items()]


def suspects(session: Session, rounds: RoundsRecord) -> Suspects | None:
    """Training images whose labels look wrong, where the cure ends without a good fit; None elsewhere, and where none do.

    Prints a line where there are too few images for an audit.
    """
    verdict = treatment.verdict_to_treat([training.verdict for training in rounds.after])
    if verdict == GOOD_FIT:
        return None
    config = session.compose(rounds.after[0].overrides)
    images = audited(config, ("train",))
    try:
        seen = views(config, images, ("train",), MOST_FEATURES if verdict in DATA_VERDICTS else MOST_FEATURES // 5)
        audit = label_audit.audit(seen.views, images.labels, images.groups, config.seed)
    except ValueError as error:
        print(f"the labels were not audited: {error}")
        return None
    found = label_audit.suspects(audit)
    if not len(found.images):
        return None
    pictures = seen.pictures(images, found.images[:MOST_SUSPECTS].tolist())
    return Suspects(found, audit.method(), len(images.labels), pictures, images.dataset.classes)


def _arm(trainings: Trainings, name: str, selected: Sequence[Overrides]) -> Arm:
    readings = []
    for overrides in selected:
        run, row = trainings.record(overrides), trainings.kept_row(overrides)
        readings.append(Reading(run.config["seed"], int(row["epoch"]), row, run.num_parameters, run.seconds))
    return Arm(name, (), readings, [trainings.history(overrides) for overrides in selected])
