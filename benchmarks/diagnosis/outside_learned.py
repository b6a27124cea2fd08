"""See how much more a learned classifier reads out of the curves of `outside.py` than the rules do.

python benchmarks/diagnosis/outside_learned.py    from outside.parquet, in two minutes

For each verdict a classifier learns from the measurements of a training whether that verdict's remedy helped. It learns on four
data sets and names, on the fifth, the verdict that it holds for the most probable. It never says `inconclusive`.
"""

from collections.abc import Callable

import numpy as np
import outside_truth
from numpy.typing import NDArray
from outside_cases import CHAOTIC, Case, cases, complete, told
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from table import share

from pipeline.diagnosis import rules
from pipeline.diagnosis.measurements import Estimate, Measurements

VERDICTS = (rules.OVERFITTING, rules.STILL_LEARNING, rules.UNDERFITTING, rules.UNSTABLE, rules.GOOD_FIT)

FEWEST = 3
"""Number of trainings with a verdict below which it is not learned."""

MODELS: dict[str, Callable[[], ClassifierMixin]] = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
    "random forest": lambda: RandomForestClassifier(500, min_samples_leaf=3, random_state=0),
    "extremely random trees": lambda: ExtraTreesClassifier(500, min_samples_leaf=3, random_state=0),
    "boosted trees": lambda: HistGradientBoostingClassifier(max_iter=60, min_samples_leaf=5, random_state=0),
}


def measurements(measured: Measurements) -> list[float]:
    """What the rules look at, and more, as numbers; 0 for what was not measured."""
    course, guessing = measured.course, measured.course.guessing_loss
    late = slice(course.num_epochs // 2, None)
    reference, learning = measured.reference, course.learning_accuracy
    return [
        *_bounds(measured.gap), *_bounds(measured.val_ahead, guessing), *_bounds(measured.train_ahead, guessing),
        *_bounds(measured.accuracy_ahead), *_bounds(measured.train), *_bounds(measured.val), *_bounds(reference),
        *measured.jumps, measured.rise_kept / guessing, measured.accuracy_lost, measured.train_falling, measured.val_falling,
        0.0 if reference is None else reference.value - measured.val.value,
        0.0 if reference is None else reference.low - measured.train.high,
        measured.gap.value / max(measured.train.value - course.base, 1e-3),
        course.train_loss[-1] / guessing, course.val_loss[-1] / guessing,
        float(np.diff(course.train_accuracy[late]).std()), float(np.diff(course.val_accuracy[late]).std()),
        0.0 if learning is None else measured.train.value - float(np.median(learning[-3:])),
        course.base, course.num_val, np.log(course.num_train), np.log(course.num_classes), course.num_epochs,
        measured.anneals, course.clean,
    ]  # fmt: skip


def _bounds(estimate: Estimate | None, unit: float = 1.0) -> tuple[float, float, float]:
    if estimate is None:
        return 0.0, 0.0, 0.0
    return estimate.value / unit, estimate.low / unit, estimate.high / unit


def learned(found: list[Case], make: Callable[[], ClassifierMixin]) -> list[str]:
    """The verdict for each training by a classifier that has seen none of its data set, and none of Keras or fastai."""
    seen = np.array([measurements(case.measured) for case in found])
    helped = np.array([[verdict in case.truth for verdict in VERDICTS] for case in found])
    places = np.array([case.dataset for case in found])
    ours = np.array([not case.is_of_others for case in found])
    probable: NDArray[np.float64] = np.zeros(helped.shape)
    for place in sorted(set(places)):
        there, elsewhere = places == place, (places != place) & ours
        for number in range(len(VERDICTS)):
            if helped[elsewhere, number].sum() >= FEWEST:
                model = make().fit(seen[elsewhere], helped[elsewhere, number])
                probable[there, number] = model.predict_proba(seen[there])[:, 1]
    return [VERDICTS[number] for number in probable.argmax(axis=1)]


def main() -> None:
    trained = complete()
    truths = {place: outside_truth.borne_out(variants)[0] for place, variants in trained.items()}
    found = [case for case in cases(trained, truths) if not case.measured.diverged]
    answers = {"the rules": [told(case.measured) for case in found]}
    answers |= {f"always {verdict}": [verdict] * len(found) for verdict in VERDICTS if verdict not in CHAOTIC}
    for name, make in MODELS.items():
        answers[name] = learned(found, make)
        pairs = zip(answers["the rules"], answers[name], strict=True)
        mixed = [theirs if rule == rules.INCONCLUSIVE else rule for rule, theirs in pairs]
        answers[f"the rules, where inconclusive {name}"] = mixed
    for name, verdicts in answers.items():
        for group, others in (("plain loop", False), ("Keras and fastai", True)):
            hits = [
                case.is_right(verdict)
                for case, verdict in zip(found, verdicts, strict=True)
                if case.is_of_others is others
            ]
            print(f"{name}, {group}: {share(sum(hits), len(hits))}")


if __name__ == "__main__":
    main()
