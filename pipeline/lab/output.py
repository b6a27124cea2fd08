"""Prints the tables of an ablation and of a cure, and writes the numbers of an ablation as CSV."""

from collections.abc import Sequence
from statistics import fmean

from pipeline import terminal
from pipeline.artefacts.rounds import RoundRecord, RoundsRecord, TrainingRecord
from pipeline.config.grammar import experiment
from pipeline.lab import treatment
from pipeline.metrics import history
from pipeline.metrics.ablation import Arm, Effect
from pipeline.storage.tables import to_csv

REMARKABLE = 0.005
"""Smallest sure gain in accuracy from the second half of the training images for which more images are recommended."""

PROMISING = 0.02
"""Possible gain from them up to which more images promise little."""

_MEASURED = (
    history.CLEAN_ACCURACY, history.VAL_ACCURACY, history.CLEAN_LOSS, history.VAL_LOSS, history.VAL_ECE,
    history.WEIGHTS_NORM, history.WEIGHTS_SPARSITY,
)  # fmt: skip


def print_effects(baseline: Arm, effects: Sequence[Effect]) -> None:
    """Print the means of each arm, its differences from the baseline, and its effect on the gap in words."""
    table = terminal.table(
        f"{len(effects) + 1} arms, means of {len(baseline.readings)} seeds; differences from the baseline with "
        "95 % intervals",
        texts=("arm",),
        numbers=("training", "validation", "gap", "Δ validation", "Δ gap", "Δ loss"),
    )
    table.add_row("baseline", *_means(baseline), "", "", "")
    for effect in effects:
        differences = map(treatment.written, (effect.accuracy, effect.gap, effect.loss))
        table.add_row(effect.arm.name.replace("_", " "), *_means(effect.arm), *differences)
    console = terminal.console()
    console.print(table)
    for effect in effects:
        console.print(f"{effect.arm.name.replace('_', ' ')}: {effect.sentence()}")


def effects_csv(effects: Sequence[Effect]) -> str:
    """A line for each arm: its differences from the baseline with their intervals, and the detectable differences."""
    header = ["arm", "overrides", "n"]
    for name in ("accuracy", "gap", "loss"):
        header += [f"{name}_difference", f"{name}_low", f"{name}_high", f"{name}_detectable"]
    lines = []
    for effect in effects:
        line = [effect.arm.name, " ".join(effect.arm.overrides), effect.gap.n]
        for difference in (effect.accuracy, effect.gap, effect.loss):
            line += [difference.mean, difference.low, difference.high, difference.detectable]
        lines.append([*line, effect.gap_p])
    return to_csv([*header, "gap_p_corrected"], lines)


def readings_csv(arms: Sequence[Arm]) -> str:
    """A line for each training: its arm, its seed, and its measures at the epoch whose weights are kept."""
    lines = [
        [arm.name, reading.seed, reading.epoch, *(reading.row[key] for key in _MEASURED), reading.num_parameters]
        for arm in arms
        for reading in arm.readings
    ]
    return to_csv(["arm", "seed", "epoch", *_MEASURED, "num_parameters"], lines)


def print_round(number: int, round_: RoundRecord) -> None:
    """Print the candidates of a round beside the champion, and the outcome; rounds are counted from 1."""
    table = terminal.table(
        f"round {number}: {round_.verdict.replace('_', ' ')}",
        texts=("change", "verdict"),
        numbers=("training", "validation", "gap", "val/loss"),
    )
    table.add_row("none", *_cells(round_.champion[0]))
    for candidate in round_.tried:
        is_chosen = candidate.override == round_.chosen
        table.add_row(candidate.override, *_cells(candidate), style="bold" if is_chosen else None)
    console = terminal.console()
    console.print(table)
    console.print(f"round {number}: {treatment.outcome(round_)}", soft_wrap=True)


def print_result(rounds: RoundsRecord, patch: str) -> None:
    """Print what a cure adopted, with the change of `params.yaml` as a diff, why it ended, and what more images promise."""
    print(headline(rounds))
    if rounds.adopted:
        print(f"Before: {_summary(rounds, rounds.before)}\nAfter:  {_summary(rounds, rounds.after)}")
        print(f"The change of params.yaml:\n{patch}")
    if rounds.more_data is not None:
        print(worth_of_data(rounds))


def headline(rounds: RoundsRecord) -> str:
    """The changes that a cure adopted, and the reason why it ended; where there are none, the most promising change."""
    result = f"Adopted: {', '.join(rounds.adopted)}" if rounds.adopted else "Nothing was adopted"
    return f"{result}. It ended because {rounds.reason}.{'' if rounds.adopted else _most_promising(rounds)}"


def _most_promising(rounds: RoundsRecord) -> str:
    """A sentence about the change that gained most when it was to be confirmed; empty where none gained much."""
    gains = [
        (round_.confirmation.accuracy, round_.chosen, round_.confirmation.measure)
        for round_ in rounds.rounds
        if round_.confirmation is not None and round_.chosen is not None
    ]
    gain, change, measure = max(gains, key=lambda each: each[0].mean, default=(None, "", ""))
    if gain is None or gain.mean < treatment.WORTH_A_GAP:
        return ""
    return (
        f" Most promising was {change}: {measure} {treatment.written(gain)} in {gain.n} pairs of trainings, which is "
        f"not sure. To take it all the same: {experiment(change)}"
    )


def worth_of_data(rounds: RoundsRecord) -> str:
    """The promise of more training images; empty where it was not measured."""
    gain = rounds.more_data
    if gain is None:
        return ""
    if gain.low > REMARKABLE:
        promise = "more images would help"
    elif gain.high > PROMISING:
        promise = f"more images may help, which {gain.n} pairs of trainings do not show"
    else:
        promise = "more of them promise little"
    return f"The second half of the training images brought {treatment.written(gain)} of accuracy: {promise}."


def _means(arm: Arm) -> list[str]:
    return [f"{arm.mean(name):.3f}" for name in ("train_accuracy", "accuracy", "gap")]


def _cells(training: TrainingRecord) -> list[str]:
    numbers = (training.train_accuracy, training.val_accuracy, training.gap, training.loss)
    return [training.verdict.replace("_", " "), *("–" if number is None else f"{number:.3f}" for number in numbers)]


def _summary(rounds: RoundsRecord, trainings: Sequence[TrainingRecord]) -> str:
    names = ("train_accuracy", "val_accuracy", "gap")
    means = [_mean([getattr(training, name) for training in trainings]) for name in names]
    verdicts = ", ".join(dict.fromkeys(training.verdict.replace("_", " ") for training in trainings))
    of = f"{len(trainings)} seeds" if rounds.folds is None else f"{rounds.folds} folds"
    return f"training {means[0]}, validation {means[1]}, gap {means[2]}; {verdicts} (means of {of})"


def _mean(numbers: Sequence[float | None]) -> str:
    known = [number for number in numbers if number is not None]
    return f"{fmean(known):.3f}" if len(known) == len(numbers) else "–"
