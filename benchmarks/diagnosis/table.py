"""Measures how often the diagnosis is right on the trainings of the study in `histories.parquet`; takes seconds.

python benchmarks/diagnosis/table.py                      the held-out part, with the default thresholds
python benchmarks/diagnosis/table.py --part tuning        the part from which the thresholds were chosen
python benchmarks/diagnosis/table.py --wrong              each wrong diagnosis, with its sentence
python benchmarks/diagnosis/table.py gap=0.06             with other thresholds
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import store
from regimes import CALMER, LARGER, LONGER, MORE_DATA, REGIMES, REGULARISED
from rich import box
from rich.console import Console
from rich.table import Table
from rivals import compared
from store import Trained

from pipeline.diagnosis import VERDICTS, Thresholds, diagnose
from pipeline.diagnosis.measurements import Measurements
from pipeline.metrics.intervals import wilson

WORTH = 0.02
"""Mean gain in validation accuracy from which a counterfactual counts as better, if every seed gains."""

STUCK = 0.05
"""Training accuracy above guessing that a training which is stuck at guessing reaches after no epoch."""

SAME_DATA = {regime.name for regime in REGIMES if not regime.images}
CLAIMS = {regime.name: regime.verdict for regime in REGIMES}
BY_HAND = ("diverged", "leak_suspected", "eval_mismatch", "not_learning", "no_signal", "split_mismatch")
"""Verdicts of faults that were built in, which need no certificate."""

Place = tuple[str, str]
"""A data set and a regime."""


@dataclass(frozen=True)
class Certificate:
    """The result of the counterfactual trainings of a regime on a data set.

    Attributes:
        holds: Whether they confirm the regime's intended verdict.
        raises: Gain in validation accuracy of each counterfactual, by name, one for each seed.
    """

    holds: bool
    raises: dict[str, list[float]]


@dataclass(frozen=True)
class Told:
    """A training with its true and its given verdict."""

    trained: Trained
    truth: str
    verdict: str
    sentence: str


def certify(trained: Iterable[Trained]) -> dict[Place, Certificate]:
    """Check the intended verdict of each regime on each data set by trainings with the same seed that differ in one thing."""
    measured: dict[tuple[str, str, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for each in trained:
        if each.part != "tuning":
            measured[each.dataset, each.regime, each.variant][each.seed] = _accuracies(each)
    found = {}
    for dataset, regime, variant in list(measured):
        if variant:
            continue
        plain, raises, learned = measured[dataset, regime, ""], {}, {}
        for name in (MORE_DATA, REGULARISED, LARGER, LONGER, CALMER):
            better = measured.get((dataset, regime, name), {})
            seeds = sorted(plain.keys() & better.keys())
            if seeds:
                learned[name] = [better[seed][0] - plain[seed][0] for seed in seeds]
                raises[name] = [better[seed][1] - plain[seed][1] for seed in seeds]
        found[dataset, regime] = Certificate(_holds(CLAIMS[regime], learned, raises), raises)
    return found


def _accuracies(trained: Trained) -> tuple[float, float]:
    """Accuracies of training and of validation at the kept epoch; those of guessing if the training diverged."""
    measured = Measurements(trained.course(), Thresholds())
    return (0.1, 0.1) if measured.diverged else (measured.train.value, measured.val.value)


def _holds(claim: str, learned: dict[str, list[float]], raises: dict[str, list[float]]) -> bool:
    if claim in BY_HAND:
        return True
    up = {name for name, values in raises.items() if fmean(values) >= WORTH and min(values) > 0}
    if claim == "good_fit":
        return bool(raises) and not up
    if claim == "underfitting":
        return LARGER in up and fmean(learned[LARGER]) >= WORTH
    wanted = {"overfitting": {MORE_DATA, REGULARISED}, "still_learning": {LONGER}, "unstable": {CALMER}}[claim]
    return bool(wanted & up)


def champions(trained: Iterable[Trained]) -> dict[tuple[str, int], tuple[float, int]]:
    """Validation accuracy of the plain network on each data set with each seed, which a user would know, and its images."""
    plain = [each for each in trained if each.regime == REGIMES[0].name and not each.variant]
    return {(each.dataset, each.seed): (_accuracies(each)[1], each.known["num_val"]) for each in plain}


def truth(trained: Trained, verdict: str, calmer: Trained | None) -> str | None:
    """The true verdict of a training of a regime that is meant to be unstable; None where nothing certifies one.

    Seeds of these regimes end differently, so each training is certified by its own rerun at a tenth of the rate.

    Args:
        trained: The training.
        verdict: Its given verdict: of one that is stuck at guessing until a lower rate cures it, both *unstable* and *not
            learning* are true.
        calmer: The rerun.
    """
    if Measurements(trained.course(), Thresholds()).diverged:
        return "diverged"
    if calmer is None or _accuracies(calmer)[1] - _accuracies(trained)[1] < WORTH:
        return None
    return verdict if verdict == "not_learning" and is_stuck(trained) else "unstable"


def is_stuck(trained: Trained) -> bool:
    """Whether training accuracy is at guessing after all epochs."""
    course = trained.course()
    return bool(course.train_accuracy.max() < course.base + STUCK)


def tell(
    trained: Iterable[Trained],
    certificates: dict[Place, Certificate],
    thresholds: Thresholds,
    reached: dict[tuple[str, int], tuple[float, int]],
    calmer: dict[tuple[str, str, int], Trained],
) -> list[Told]:
    """Diagnose every training that is certified, by its regime or by itself, with `reached` as the reference if its data are
    the same."""
    found = []
    for each in trained:
        claim = CLAIMS[each.regime]
        if claim == "unstable" or certificates[each.dataset, each.regime].holds:
            champion = reached.get((each.dataset, each.seed)) if each.regime in SAME_DATA else None
            diagnosis = diagnose(each.course(champion), thresholds)
            true: str | None = claim
            if claim == "unstable":
                true = truth(each, diagnosis.verdict, calmer.get((each.dataset, each.regime, each.seed)))
            if true is not None:
                found.append(Told(each, true, diagnosis.verdict, diagnosis.sentence))
    return found


def never_enough(trained: Iterable[Trained], certificates: dict[Place, Certificate]) -> tuple[int, int]:
    """How many trainings are called still learning, of those with a rate that ends near 0 and three times the epochs of a good
    fit: as these epochs brought nothing, neither will more."""
    found = [
        diagnose(each.course())
        for each in trained
        if each.variant == LONGER and CLAIMS[each.regime] == "good_fit" and certificates[each.dataset, each.regime].holds
        and Measurements(each.course(), Thresholds()).anneals
    ]  # fmt: skip
    return sum(each.verdict == "still_learning" for each in found), len(found)


def share(count: int, total: int) -> str:
    """A proportion with its 95 % interval (Wilson 1927)."""
    low, high = wilson(count, total)
    return f"{count} of {total}, {count / total:.3f} [{low:.3f}, {high:.3f}]"


def recalls(told: Sequence[Told]) -> dict[str, tuple[int, int]]:
    """The number of right diagnoses and of trainings for each true verdict."""
    totals, right = (
        Counter(each.truth for each in told),
        Counter(each.truth for each in told if each.truth == each.verdict),
    )
    return {verdict: (right[verdict], totals[verdict]) for verdict in VERDICTS if totals[verdict]}


def summary(told: Sequence[Told]) -> list[str]:
    """The main scores of the diagnosis, a line each."""
    right = sum(each.truth == each.verdict for each in told)
    good = [each for each in told if each.truth == "good_fit"]
    alarms = sum(each.verdict not in ("good_fit", "inconclusive") for each in good)
    large = {verdict: found for verdict, found in recalls(told).items() if found[1] >= 8}
    swapped = sum({each.truth, each.verdict} == {"overfitting", "underfitting"} for each in told)
    either = sum(each.truth in ("overfitting", "underfitting") for each in told)
    silent = sum(each.verdict == "inconclusive" for each in told)
    return [
        f"right: {share(right, len(told))}",
        f"false alarms on good fits: {share(alarms, len(good))}",
        f"macro recall over {len(large)} verdicts with 8 trainings or more: "
        f"{fmean(found[0] / found[1] for found in large.values()):.3f}, the least {min(a / b for a, b in large.values()):.3f}",
        f"over- and underfitting taken for each other: {share(swapped, either)}",
        f"abstentions (inconclusive), counted as wrong above: {share(silent, len(told))}",
    ]


def matrix(told: Sequence[Told]) -> Table:
    """The confusion matrix: true verdicts in rows, given ones in columns."""
    counts = Counter((each.truth, each.verdict) for each in told)
    columns = [verdict for verdict in VERDICTS if any(each.verdict == verdict for each in told)]
    table = Table(title="confusion", title_justify="left", box=box.MARKDOWN)
    table.add_column("is \\ told")
    for verdict in columns:
        table.add_column(verdict.replace("_", " "), justify="right")
    for truth in recalls(told):
        table.add_row(truth.replace("_", " "), *(str(counts[truth, verdict] or "·") for verdict in columns))
    return table


def rivals(told: Sequence[Told]) -> Table:
    """This diagnosis and the rules of other tools, on the same trainings."""
    finite = [each for each in told if each.truth != "diverged"]
    return compared(
        [each.trained.course() for each in finite],
        [each.truth == "overfitting" for each in finite],
        [each.truth == "good_fit" for each in finite],
        {"goodfit": [each.verdict == "overfitting" for each in finite]},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thresholds", nargs="*", help="such as gap=0.06")
    parser.add_argument("--part", default="held out", help="tuning, seen or held out")
    parser.add_argument("--wrong", action="store_true", help="list what is told wrongly")
    parser.add_argument(
        "--alone", action="store_true", help="no champion: only simple methods tell what can be reached"
    )
    parser.add_argument("--certificates", action="store_true", help="list what the counterfactuals brought")
    options = parser.parse_args()
    thresholds = Thresholds.changed(
        {key: float(value) for key, value in (each.split("=") for each in options.thresholds)}
    )
    trained = list(store.read())
    certificates = certify(trained)
    reached = {} if options.alone else champions(trained)
    calmer = {(each.dataset, each.regime, each.seed): each for each in trained if each.variant == CALMER}
    told = tell([each for each in trained if each.part == options.part], certificates, thresholds, reached, calmer)
    console = Console(width=200, highlight=False)
    left_out = [
        place for place, certificate in certificates.items() if not certificate.holds and CLAIMS[place[1]] != "unstable"
    ]
    console.print(
        f"{len(told)} trainings of the part {options.part!r}; left out as not certified: {len(left_out)} regimes"
    )
    if options.certificates:
        for (dataset, regime), found in certificates.items():
            brought = ", ".join(f"{name} {fmean(values):+.3f}" for name, values in found.raises.items())
            console.print(
                f"  {'yes' if found.holds else 'NO ':3} {CLAIMS[regime]:15} {dataset:14} {regime:32} {brought}"
            )
    else:
        for dataset, regime in left_out:
            console.print(f"  {regime} on {dataset}, meant to be {CLAIMS[regime]}")
    for line in summary(told):
        console.print(line)
    console.print(
        f"three times a good fit's epochs and a rate to 0, yet still learning: {share(*never_enough(trained, certificates))}"
    )
    for verdict, (right, total) in recalls(told).items():
        console.print(f"  {verdict}: {share(right, total)}")
    moved = [each for each in told if each.truth == "unstable" and not is_stuck(each.trained)]
    if moved:
        right = sum(each.verdict == "unstable" for each in moved)
        console.print(f"  unstable, of trainings that had learned something: {share(right, len(moved))}")
    console.print(matrix(told))
    console.print(rivals(told))
    if options.wrong:
        for each in told:
            if each.truth != each.verdict:
                console.print(
                    f"{each.trained.dataset} {each.trained.seed} {each.trained.regime!r}, {each.truth}: {each.sentence}"
                )


if __name__ == "__main__":
    main()
