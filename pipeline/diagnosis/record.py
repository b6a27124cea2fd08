"""`diagnosis.json`: a diagnosis as it is stored, and the lines in which it is told."""

from collections.abc import Sequence
from typing import Any

from pipeline.diagnosis import rules
from pipeline.diagnosis.estimates import Estimate
from pipeline.diagnosis.prescriptions import Prescription
from pipeline.diagnosis.verdict import OVERCONFIDENT, Diagnosis

MEANING = {
    rules.DIVERGED: "The loss left the finite numbers: the steps are too large for these data.",
    rules.LEAK_SUSPECTED: "Images of validation are in training too, so validation cannot tell how well the rest is known.",
    rules.EVAL_MISMATCH: "The network does worse in evaluation mode on the very images that it has learned.",
    rules.NOT_LEARNING: "Neither curve leaves the level of guessing.",
    rules.NO_SIGNAL: "Training is learned by heart and validation stays at guessing: labels and images do not belong together.",
    rules.UNSTABLE: "The curves do not settle: they jump until the end.",
    rules.SPLIT_MISMATCH: "Validation is easier than training: the two were not drawn alike.",
    rules.STILL_LEARNING: "Both curves still get better: training ended before they settled.",
    rules.UNDERFITTING: "Both curves settle at a poor level: the network has not learned the patterns of its training images.",
    rules.OVERFITTING: "The curves are far apart: the network learns the details and the noise of its training images.",
    rules.GOOD_FIT: "The distance between training and validation is small, and both curves have settled.",
    rules.INCONCLUSIVE: "What was measured cannot tell a good fit from the others.",
}
"""What each verdict means for the two curves."""

CAUSES = {
    "gap": "the gap is that of the weights which are used",
    "overtrained": "validation was better earlier in the training",
    "regularised": "what acts only while training holds it back",
    "capacity": "nothing holds it back, so it is too small or its steps are too few",
    "dead_relu": "more than half of the ReLUs answer to no image",
    "no_updates": "the steps hardly change the weights",
    "initialisation": "the loss before training is far from that of guessing",
    "one_batch": "it could not even learn one batch by heart",
    "penalty": "more than half of the objective is penalty",
}
FLAGS = {
    OVERCONFIDENT: "validation loss rises while its accuracy holds: it becomes too sure of its mistakes",
    "no_clean_probe": "training was measured while learning, where dropout and augmentation make it look worse: a gap may hide",
}


def as_record(diagnosis: Diagnosis, prescriptions: Sequence[Prescription]) -> dict[str, Any]:
    """What JSON can hold; numbers with an interval as mappings of `value`, `low` and `high`."""
    evidence = {
        name: {"value": found.value, "low": found.low, "high": found.high} if isinstance(found, Estimate) else found
        for name, found in diagnosis.evidence.items()
    }
    return {
        "verdict": diagnosis.verdict,
        "confidence": round(diagnosis.confidence, 4),
        "nearest": diagnosis.nearest,
        "sentence": diagnosis.sentence,
        "meaning": MEANING[diagnosis.verdict],
        "rule": diagnosis.rule,
        "epoch": diagnosis.epoch,
        "evidence": evidence,
        "causes": [CAUSES[cause] for cause in diagnosis.causes],
        "flags": {flag: FLAGS[flag] for flag in diagnosis.flags},
        "not_judged": list(diagnosis.not_judged),
        "settled_by": diagnosis.settled_by,
        "prescriptions": [
            {"remedy": each.remedy, "override": each.override, "strengths": list(each.strengths)}
            for each in prescriptions
        ],
    }


def lines(record: dict[str, Any]) -> list[str]:
    """The diagnosis for a terminal.

    Args:
        record: As `as_record` gives it.
    """
    told = [record["sentence"], f"  {record['meaning']}"]
    told += [f"  Because {cause}." for cause in record["causes"]]
    told += [f"  Note: {text}." for text in record["flags"].values()]
    if record["settled_by"]:
        told.append(f"  It would be settled by {record['settled_by']}.")
    told.append(f"  Confidence {record['confidence']:.2f}; the nearest threshold is that of {record['nearest']}.")
    if record["not_judged"]:
        told.append(f"  Not judged, for want of a signal or of epochs: {', '.join(record['not_judged'])}.")
    told += [f"  Try {each['override']}  ({each['remedy']})" for each in record["prescriptions"]]
    return told
