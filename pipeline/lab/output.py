"""What an ablation leaves beside its page: the table on the terminal, and the numbers as CSV."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.metrics import history
from pipeline.metrics.ablation import Arm, Effect
from pipeline.metrics.paired import Difference

_MEASURED = (
    history.CLEAN_ACCURACY, history.VAL_ACCURACY, history.CLEAN_LOSS, history.VAL_LOSS, history.VAL_ECE,
    history.WEIGHTS_NORM, history.WEIGHTS_SPARSITY,
)  # fmt: skip


def print_table(baseline: Arm, effects: Sequence[Effect]) -> None:
    """Print each arm with its means, its differences from the baseline, and what may be said of the gap."""
    table = Table(
        title=f"{len(effects) + 1} arms, means of {len(baseline.readings)} seeds; differences from the baseline with "
        "95 % intervals",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("arm", no_wrap=True)
    for name in ("training", "validation", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Δ validation", justify="right", no_wrap=True)
    table.add_column("Δ gap", justify="right", no_wrap=True)
    table.add_column("Δ loss", justify="right", no_wrap=True)
    table.add_row("baseline", *_means(baseline), "", "", "")
    for effect in effects:
        differences = (_written(found) for found in (effect.accuracy, effect.gap, effect.loss))
        table.add_row(effect.arm.name.replace("_", " "), *_means(effect.arm), *differences)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    for effect in effects:
        console.print(f"{effect.arm.name.replace('_', ' ')}: {effect.sentence()}")


def effects_csv(effects: Sequence[Effect]) -> str:
    """A line for each arm: its differences from the baseline, their intervals, and what the seeds could have found."""
    head = ["arm", "overrides", "n"]
    for name in ("accuracy", "gap", "loss"):
        head += [f"{name}_difference", f"{name}_low", f"{name}_high", f"{name}_detectable"]
    lines = []
    for effect in effects:
        line = [effect.arm.name, " ".join(effect.arm.overrides), effect.gap.n]
        for found in (effect.accuracy, effect.gap, effect.loss):
            line += [found.mean, found.low, found.high, found.detectable]
        lines.append([*line, effect.gap_p])
    return _csv([*head, "gap_p_corrected"], lines)


def readings_csv(arms: Sequence[Arm]) -> str:
    """A line for each training: its arm, its seed, and what was measured at the epoch that counts."""
    lines = [
        [arm.name, reading.seed, reading.epoch, *(reading.row[key] for key in _MEASURED), reading.num_parameters]
        for arm in arms
        for reading in arm.readings
    ]
    return _csv(["arm", "seed", "epoch", *_MEASURED, "num_parameters"], lines)


def _means(arm: Arm) -> list[str]:
    return [f"{arm.mean(name):.3f}" for name in ("train_accuracy", "accuracy", "gap")]


def _written(found: Difference) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _csv(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *lines])
    return text.getvalue()
