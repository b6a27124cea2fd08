"""Hold the diagnosis against what really helped each training of `outside.py`; `outside_truth.py` says how that is decided.

python benchmarks/diagnosis/outside_table.py            the figures of docs/diagnosis.md, from outside.parquet
python benchmarks/diagnosis/outside_table.py --wrong    with every training whose verdict names what did not help
python benchmarks/diagnosis/outside_table.py --leave    thresholds chosen on four data sets and read on the fifth; a minute
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import outside_truth
import store
import table
from outside_cases import Case, again, cases, complete, told
from outside_truth import Place, Training
from rich.console import Console
from rich.table import Table
from rivals import compared
from table import share

from pipeline.diagnosis import Thresholds, diagnose, rules
from pipeline.diagnosis.measurements import Measurements

CHOICES = {
    "fall": (0.005, 0.01, 0.02), "sure_fall": (0.001, 0.002, 0.005), "worth": (0.002, 0.005, 0.01), "gap": (0.05, 0.06, 0.08),
}  # fmt: skip
"""Values of the thresholds among which four data sets choose."""

ALARM_COSTS = 5
"""Number of right verdicts on the old study's good fits that one false alarm there costs, when thresholds are chosen."""

Pair = tuple[str, str, Measurements, bool]
"""Data set, kind of rate, what is measured, and whether twice the epochs helped."""


def old_cases() -> list[Case]:
    """The part of the old study that was looked at while the rules were changed."""
    trained = list(store.read())
    certificates, reached = table.certify(trained), table.champions(trained)
    found = []
    for each in trained:
        if each.part == "seen" and certificates[each.dataset, each.regime].holds:
            champion = reached.get((each.dataset, each.seed)) if each.regime in table.SAME_DATA else None
            measured = Measurements(each.course(champion), Thresholds())
            place = (each.dataset, each.regime, each.seed)
            found.append(Case(place, "", frozenset({table.CLAIMS[each.regime]}), measured))
    return found


def is_projected(measured: Measurements) -> bool:
    """Whether the projection alone would call it still learning."""
    t, guessing = measured.thresholds, measured.course.guessing_loss
    val, train, accuracy = measured.val_ahead, measured.train_ahead, measured.accuracy_ahead
    if val is None or train is None or accuracy is None:
        return False
    far = min(val.value, train.value) > t.fall * guessing
    return bool(far and val.low > t.sure_fall * guessing and accuracy.value > t.worth)


def summary(found: Sequence[Case], verdicts: Sequence[str]) -> list[str]:
    """The scores, a line each."""
    right = [case.is_right(verdict) for case, verdict in zip(found, verdicts, strict=True)]
    both = list(zip(found, verdicts, right, strict=True))
    silent = sum(verdict == rules.INCONCLUSIVE for verdict in verdicts)
    lines = [
        f"the verdict names what helped: {share(sum(right), len(right))}",
        f"  of those that are not inconclusive: {share(sum(right), len(right) - silent)}",
    ]
    for key in ("dataset", "trainer", "seed"):
        for value in sorted({getattr(case, key) for case in found}):
            hits = [hit for case, _, hit in both if getattr(case, key) == value]
            lines.append(f"  {value}: {share(sum(hits), len(hits))}")
    good = [verdict for case, verdict, _ in both if case.truth == {"good_fit"}]
    alarms = sum(verdict not in (rules.GOOD_FIT, rules.INCONCLUSIVE) for verdict in good)
    lines.append(f"good fits alarmed: {alarms} of {len(good)}")
    for verdict in sorted(set().union(*(case.truth for case in found))):
        hits = [hit for case, _, hit in both if verdict in case.truth]
        lines.append(f"  helped by the remedy of {verdict}: right {share(sum(hits), len(hits))}")
    for pair in ((rules.OVERFITTING, rules.UNDERFITTING), (rules.STILL_LEARNING, rules.UNDERFITTING)):
        either = [(case, verdict) for case, verdict, _ in both if len(case.truth & set(pair)) == 1]
        swapped = sum(verdict in pair and verdict not in case.truth for case, verdict in either)
        lines.append(f"  {' taken for '.join(pair)} or the reverse: {share(swapped, len(either))}")
    return lines


def by_other_seed(
    trained: Mapping[Place, Mapping[str, Training]], found: Sequence[Case], verdicts: Sequence[str]
) -> str:
    """How well the outcome of the same training with another seed tells what helped, beside the verdict: what can be known."""
    foreseen, told_right = [], []
    for case, verdict in zip(found, verdicts, strict=True):
        dataset, regime, seed = case.place
        other = trained.get((dataset, regime, 1 - seed))
        helped = None if other is None else outside_truth.foremost(other)
        if helped is not None:
            foreseen.append(case.is_right(helped))
            told_right.append(case.is_right(verdict))
    if not foreseen:
        return "no training has a clear outcome with two seeds"
    return (
        f"what helped most with the other seed helps: {share(sum(foreseen), len(foreseen))}; the verdict of the same "
        f"trainings: {share(sum(told_right), len(told_right))}"
    )


def rivals(found: Sequence[Case], verdicts: Sequence[str]) -> Table:
    """This diagnosis and the rules of other tools: a training overfits if more images or regularisation helped it."""
    finite = [(case, verdict) for case, verdict in zip(found, verdicts, strict=True) if not case.measured.diverged]
    ours = {
        "goodfit's verdict": [verdict == rules.OVERFITTING for _, verdict in finite],
        "goodfit's finding of a gap": [rules.has_gap(case.measured) for case, _ in finite],
    }
    return compared(
        [case.measured.course for case, _ in finite],
        [rules.OVERFITTING in case.truth for case, _ in finite],
        [case.truth == {rules.GOOD_FIT} for case, _ in finite],
        ours,
        "helped by more images or regularisation, against the rest",
    )


def projections(trained: Mapping[Place, Mapping[str, Training]]) -> list[str]:
    """How far projected gains are off, and how often their intervals hold what trainings that went on reached."""
    lines = []
    for name, whole in (("whole trainings", True), ("trainings cut short", False)):
        errors, held, losses_held = list[float](), list[bool](), list[bool]()
        for each in outside_truth.continued(trained):
            if each.whole is not whole or each.kind == "too high":
                continue
            measured = Measurements(each.begun.course(), Thresholds())
            gain, fall = measured.accuracy_ahead, measured.val_ahead
            if gain is not None and fall is not None:
                errors.append(abs(each.gain - gain.value))
                held.append(gain.low - 1e-9 <= each.gain <= gain.high + 1e-9)
                losses_held.append(fall.low - 1e-9 <= each.fall <= fall.high + 1e-9)
        if held:
            lines.append(
                f"projected gain of accuracy, {name}: off by {np.mean(errors):.3f} in the mean, its interval holds "
                f"{share(sum(held), len(held))}; that of the loss {share(sum(losses_held), len(losses_held))}"
            )
    return lines


class Leaving:
    """Chooses the thresholds on some data sets, to read the verdicts on another one."""

    def __init__(self, found: Sequence[Case], pairs: Sequence[Pair]) -> None:
        self.found, old = found, old_cases()
        self.grid = [Thresholds(**dict(zip(CHOICES, values, strict=True))) for values in product(*CHOICES.values())]
        self.verdicts = [[told(case.with_thresholds(each)) for case in found] for each in self.grid]
        self.right = np.array([_right(found, verdicts) for verdicts in self.verdicts])
        self.paired = np.array(
            [[is_projected(again(measured, each)) == helps for _, _, measured, helps in pairs] for each in self.grid]
        )
        self.places = np.array([case.dataset for case in found])
        self.paired_places = np.array([place for place, *_ in pairs])
        olds = [[told(case.with_thresholds(each)) for case in old] for each in self.grid]
        self.old = np.array([np.mean(_right(old, verdicts)) for verdicts in olds])
        fits = [number for number, case in enumerate(old) if case.truth == {"good_fit"}]
        quiet = (rules.GOOD_FIT, rules.INCONCLUSIVE)
        self.alarms = np.array([np.mean([verdicts[number] not in quiet for number in fits]) for verdicts in olds])

    def choose(self, without: str) -> int:
        """The place in the grid of the best thresholds on all data sets but one; of equal ones the nearest to the defaults."""
        right, paired = self.right[:, self.places != without], self.paired[:, self.paired_places != without]
        score = right.mean(axis=1) + paired.mean(axis=1) + self.old - ALARM_COSTS * self.alarms
        default = Thresholds()
        changed = [sum(getattr(each, name) != getattr(default, name) for name in CHOICES) for each in self.grid]
        return int(np.argmax(score - 1e-6 * np.array(changed)))

    def lines(self) -> list[str]:
        verdicts, hits = np.empty(len(self.found), dtype=object), 0
        lines = ["", "thresholds chosen on the other data sets and on the seen part of the old study:"]
        for place in [*sorted(set(self.places)), ""]:
            chosen = self.choose(place)
            values = ", ".join(f"{name} {getattr(self.grid[chosen], name):g}" for name in CHOICES)
            lines.append(f"  {'without ' + place if place else 'on all'}: {values}")
            here, paired_here = self.places == place, self.paired_places == place
            verdicts[here] = np.array(self.verdicts[chosen], dtype=object)[here]
            hits += int(self.paired[chosen, paired_here].sum())
        lines += ["read on the data set that was left out:", *summary(self.found, list(verdicts))]
        return [*lines, f"twice the epochs, all kinds of rate: {share(hits, self.paired.shape[1])}"]


def _right(found: Sequence[Case], verdicts: Sequence[str]) -> list[bool]:
    return [case.is_right(verdict) for case, verdict in zip(found, verdicts, strict=True)]


def show(trained: Mapping[Place, Mapping[str, Training]], *, wrong: bool) -> tuple[list[Case], list[Pair]]:
    """Print the scores of some trainings; returns those with a clear outcome, and the pairs with twice the epochs."""
    outcomes = {place: outside_truth.borne_out(variants) for place, variants in trained.items()}
    found = cases(trained, {place: truth for place, (truth, _) in outcomes.items()})
    print(f"{len(trained)} trainings, of which {len(found)} have a clear outcome; left out:")
    for reason, count in Counter(reason for _, reason in outcomes.values() if reason).items():
        print(f"  {count}: {reason}")
    verdicts = [told(case.measured) for case in found]
    print("\n".join([*summary(found, verdicts), by_other_seed(trained, found, verdicts)]))
    matrix = Counter((" or ".join(sorted(case.truth)), verdict) for case, verdict in zip(found, verdicts, strict=True))
    for (truth, verdict), count in sorted(matrix.items()):
        print(f"  helped {truth}: {verdict} {count}")
    Console(width=200, highlight=False).print(rivals(found, verdicts))
    before = cases(trained, {place: outside_truth.helped_before(variants) for place, variants in trained.items()})
    hits = _right(before, [told(case.measured) for case in before])
    print(f"by the definition before, which took gains within the noise: {share(sum(hits), len(hits))}")
    pairs = [
        (dataset, kind, Measurements(course, Thresholds()), helps)
        for dataset, kind, course, helps in outside_truth.pairs(trained)
    ]
    for kind in sorted({kind for _, kind, _, _ in pairs}):
        counts = Counter((helps, is_projected(measured)) for _, each, measured, helps in pairs if each == kind)
        hit = counts[True, True] + counts[False, False]
        not_helped = counts[False, True] + counts[False, False]
        wrongly = f"{counts[False, True]} of {not_helped} told wrongly that they would"
        print(f"twice the epochs, rate {kind}: {share(hit, sum(counts.values()))}; {wrongly}")
    print("\n".join(projections(trained)))
    for case, verdict in zip(found, verdicts, strict=True):
        if wrong and not case.is_right(verdict):
            print(
                f"{case.name}, helped by {' or '.join(sorted(case.truth))}: {diagnose(case.measured.course).sentence}"
            )
    return found, pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--leave", action="store_true")
    options = parser.parse_args()
    trained = complete()
    others = {place: variants for place, variants in trained.items() if variants[""].trainer != "loop"}
    found, pairs = show({place: trained[place] for place in trained if place not in others}, wrong=options.wrong)
    if options.leave:
        print("\n".join(Leaving(found, pairs).lines()))
    print("\nhistories of Keras and fastai, for which no threshold was chosen:")
    show(others, wrong=options.wrong)


if __name__ == "__main__":
    main()
