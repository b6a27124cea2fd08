"""Trainings of `outside.py` as cases: their measurements, and the verdicts that their outcome bears out."""

from collections.abc import Mapping
from dataclasses import dataclass

import outside_truth
from outside_truth import Place, Training

from pipeline.diagnosis import Thresholds, rules
from pipeline.diagnosis.measurements import Measurements

CHAOTIC = {"unstable", "diverged", "not_learning"}
"""Verdicts whose first remedy is a lower rate."""

SLOW = ("train_ahead", "val_ahead", "accuracy_ahead")
"""Measurements that take long, and that no threshold of `CHOICES` changes."""


@dataclass(frozen=True)
class Case:
    """A training whose true verdicts are known: one for its regime in the old study, several here."""

    place: Place
    trainer: str
    truth: frozenset[str]
    measured: Measurements

    @property
    def name(self) -> str:
        dataset, regime, seed = self.place
        return f"{dataset} {regime!r} {seed}"

    @property
    def dataset(self) -> str:
        return self.place[0]

    @property
    def seed(self) -> str:
        return f"seed {self.place[2]}"

    def with_thresholds(self, thresholds: Thresholds) -> Measurements:
        return again(self.measured, thresholds)

    @property
    def is_of_others(self) -> bool:
        """Whether Keras or fastai trained it."""
        return self.trainer in ("keras", "fastai")

    def is_right(self, verdict: str) -> bool:
        return verdict in self.truth or (verdict in CHAOTIC and bool(self.truth & CHAOTIC))


def again(measured: Measurements, thresholds: Thresholds) -> Measurements:
    """The measurements with other thresholds; what takes long is not measured again."""
    found = Measurements(measured.course, thresholds)
    if not measured.diverged:
        vars(found).update({name: getattr(measured, name) for name in SLOW})
    return found


def told(measured: Measurements) -> str:
    """The verdict of the first rule that applies."""
    for rule in rules.in_order(measured):
        margin = rule.margin(measured)
        if margin is not None and margin.value > 0:
            return rule.verdict
    return rules.INCONCLUSIVE


def cases(trained: Mapping[Place, Mapping[str, Training]], truths: Mapping[Place, frozenset[str] | None]) -> list[Case]:
    found = []
    for (dataset, regime, seed), truth in sorted(truths.items()):
        if truth:
            base = trained[dataset, regime, seed][""]
            trainer = base.trainer
            if trainer == "loop":
                trainer = str(base.setting["schedule"]) if base.setting["clean"] else "measured while learning"
            measured = Measurements(base.course(), Thresholds())
            found.append(Case((dataset, regime, seed), trainer, truth, measured))
    return found


def complete() -> dict[Place, dict[str, Training]]:
    """The trainings of which all that certify them are there."""
    return {place: variants for place, variants in outside_truth.read().items() if outside_truth.complete(variants)}
