"""The rounds of a cure: which changes come to be confirmed, with trainings that are made up."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.diagnosis import diagnose
from pipeline.lab import cure_loop
from pipeline.lab.cure_loop import CureLoop
from pipeline.lab.repetition import Confirmed, Seeds
from pipeline.lab.trainings import Overrides
from pipeline.lab.treatment import DiagnosedTraining
from tests import courses
from tests.conftest import ROOT

LOSSES = {"model=efficientnet": 0.5, "model=convnet": 0.6, "model=resnet": 0.7}
"""Validation loss of the networks that are better than the champion; that of all others is 1."""


class Trials:
    """Stands in for those of `pipeline.lab.trials`: nothing is surely better on images to confirm on."""

    def __init__(self, session: Any, config: Config) -> None:
        self.repetition, self.num_images, self.source_side = Seeds(), 2000, None
        self.budget = SimpleNamespace(fits=lambda trainings: True, check=lambda trainings: None)
        self.session = session

    def settings(self, overrides: Overrides) -> Any:
        return self.session.compose(overrides).model_dump()

    def parts(self, selected: Sequence[Overrides]) -> list[Overrides]:
        return list(selected)

    def run(self, selected: Sequence[Overrides]) -> None:
        pass

    def fits_images(self, overrides: Overrides) -> bool:
        return True

    def diagnosed(
        self, selected: Sequence[Overrides], champion: Any = None, *, settled: bool = False
    ) -> list[DiagnosedTraining]:
        return [self._diagnosed(overrides, settled) for overrides in selected]

    def unrecognised(self, overrides: Overrides) -> list[str]:
        return []

    def confirmed(self, selected: Sequence[Overrides], *, balanced: bool) -> list[Confirmed]:
        accuracies = [0.5 + 0.1 * (number % 2) for number in range(len(selected))]
        return [Confirmed({"image": accuracy}, accuracy + 0.1) for accuracy in accuracies]

    def _diagnosed(self, overrides: Overrides, settled: bool) -> DiagnosedTraining:
        loss = next((loss for network, loss in LOSSES.items() if network in overrides), None)
        course = courses.overfitting() if loss is None else courses.good_fit(num_val=60, num_train=60)
        return DiagnosedTraining(overrides, diagnose(course), loss or 1.0)


class Settled(Trials):
    """The champion seems to be still learning, and nothing is better, more epochs included."""

    def _diagnosed(self, overrides: Overrides, settled: bool) -> DiagnosedTraining:
        changes = set(overrides) - {f"seed={seed}" for seed in range(3)}
        course = courses.underfitting() if changes else courses.still_learning(settled=settled)
        return DiagnosedTraining(overrides, diagnose(course), 2.0 if changes else 1.0)


class Improving(Settled):
    """Smaller batches are surely better; more epochs are not, neither before nor with them."""

    better = "train.batch_size=128"

    def _diagnosed(self, overrides: Overrides, settled: bool) -> DiagnosedTraining:
        if not any(override.startswith(self.better) for override in overrides):
            return super()._diagnosed(overrides, settled)
        if any(override.startswith("train.max_epochs=") for override in overrides):
            return DiagnosedTraining(overrides, diagnose(courses.underfitting()), 2.0)
        higher = courses.course(courses.straight(0.85), courses.straight(0.84), settled=settled)
        return DiagnosedTraining(overrides, diagnose(higher), 0.5)

    def confirmed(self, selected: Sequence[Overrides], *, balanced: bool) -> list[Confirmed]:
        gains = [0.3 * (self.better in overrides) + 0.01 * (number % 2) for number, overrides in enumerate(selected)]
        return [Confirmed({"image": 0.5 + gain}, 0.6 + gain) for gain in gains]


class Unbalanced(Trials):
    """Everything fits, but the class cat is recognised only where all classes weigh the same, which costs accuracy."""

    helps = True

    def unrecognised(self, overrides: Overrides) -> list[str]:
        return [] if self._is_balanced(overrides) else ["cat"]

    def balanced_accuracy(self, overrides: Overrides) -> float:
        return 0.8 if self._is_balanced(overrides) else 0.6

    def confirmed(self, selected: Sequence[Overrides], *, balanced: bool) -> list[Confirmed]:
        gain = 0.2 if balanced else -0.1
        accuracies = [
            0.7 + gain * (self.helps and self._is_balanced(overrides)) + 0.01 * (number % 2)
            for number, overrides in enumerate(selected)
        ]
        return [Confirmed({"image": accuracy}, accuracy + 0.02) for accuracy in accuracies]

    def _is_balanced(self, overrides: Overrides) -> bool:
        return "train.class_weights=balanced" in overrides

    def _diagnosed(self, overrides: Overrides, settled: bool) -> DiagnosedTraining:
        return DiagnosedTraining(overrides, diagnose(courses.good_fit()), 1.0)


class Unhelpful(Unbalanced):
    """As `Unbalanced`, but on images to confirm on weights bring nothing."""

    helps = False


@pytest.fixture
def cure(monkeypatch: pytest.MonkeyPatch) -> CureLoop:
    return made(monkeypatch, Trials)


def made(monkeypatch: pytest.MonkeyPatch, trials: type[Trials]) -> CureLoop:
    own = ["data=folder", "data.source=photos"]
    monkeypatch.setattr(cure_loop, "Trials", trials)
    monkeypatch.setattr(cure_loop.output, "print_round", lambda number, round_: None)
    session: Any = SimpleNamespace(
        compose=lambda overrides: compose(ROOT / "conf", ROOT / "params.yaml", [*own, *overrides]),
        trainings=SimpleNamespace(is_over=lambda overrides: False),
        parent=SimpleNamespace(child=lambda name, tags, metrics: None),
    )
    return CureLoop(session)


@pytest.mark.long
def test_what_was_better_and_not_confirmed_gives_way_to_the_next_best(cure: CureLoop) -> None:
    cure.run()
    assert [round_.adopted for round_ in cure.rounds] == [False, False]
    chosen = [str(round_.chosen).split()[0] for round_ in cure.rounds]
    assert chosen == ["model=efficientnet", "model=convnet"]
    assert cure.reason == "2 rounds brought nothing that proved better"


def test_where_more_epochs_are_no_better_the_champion_is_not_still_learning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cure = made(monkeypatch, Settled)
    cure.run()
    [only] = cure.rounds
    assert only.verdict == "still_learning" and "train.max_epochs=40" in [each.override for each in only.tried]
    assert cure.reason == "it fits, on each of 3 seeds; trained for more epochs, it was no better"
    assert "it no longer counts as still learning: trained for more epochs, it was no better" in capsys.readouterr().out


def test_after_an_adoption_more_epochs_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cure = made(monkeypatch, Improving)
    cure.run()
    assert [round_.adopted for round_ in cure.rounds] == [True, False]
    for round_ in cure.rounds:
        assert "train.max_epochs=40" in [each.override for each in round_.tried]
    assert cure.overrides == ("train.batch_size=128",)
    assert cure.reason == "it fits, on each of 3 seeds; trained for more epochs, it was no better"


def test_a_good_fit_with_a_class_that_is_hardly_recognised_gets_weights_for_what_the_classes_gain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cure = made(monkeypatch, Unbalanced)
    cure.run()
    [only] = cure.rounds
    assert only.unrecognised == ("cat",) and only.confirmation is not None
    assert [each.override for each in only.tried] == ["train.class_weights=balanced", "train.sampling=balanced"]
    assert only.confirmation.measure == "balanced accuracy" and only.confirmation.accuracy.mean == pytest.approx(0.2)
    assert cure.overrides == ("train.class_weights=balanced",)
    assert cure.reason == "it fits, on each of 3 seeds"
    assert "balanced accuracy on validation images: 0.600, 0.800, 0.600, no change first" in capsys.readouterr().out


def test_where_weights_bring_the_class_nothing_the_cure_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cure = made(monkeypatch, Unhelpful)
    cure.run()
    [only] = cure.rounds
    assert not only.adopted and not cure.overrides
    assert cure.reason == "it fits, on each of 3 seeds; cat: still hardly ever recognised"
