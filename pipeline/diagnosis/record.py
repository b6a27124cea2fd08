"""Turns a diagnosis into its record, and the record into lines for a terminal."""

from collections.abc import Sequence
from dataclasses import asdict

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.diagnosis import Concern, DiagnosisRecord, Found, Prescribed
from pipeline.diagnosis import rules
from pipeline.diagnosis.measurements import Estimate
from pipeline.diagnosis.remedies import Prescription
from pipeline.diagnosis.verdict import OVERCONFIDENT, Diagnosis

MEANING = {
    rules.DIVERGED: "The loss left the finite numbers: the steps are too large for these data.",
    rules.LEAK_SUSPECTED: "Images of validation are in training too, so validation cannot tell how well the rest is known.",
    rules.EVAL_MISMATCH: "The network does worse in evaluation mode on the very images that it has learned.",
    rules.NOT_LEARNING: "Neither curve leaves the level of guessing.",
    rules.NO_SIGNAL: "Training is learned by heart and validation stays at guessing: labels and images do not belong together.",
    rules.UNSTABLE: "The curves do not settle: they jump until the end.",
    rules.SPLIT_MISMATCH: "Validation is easier than training: the two were not drawn alike.",
    rules.STILL_LEARNING: "With more epochs both losses would fall further: training ended too early.",
    rules.UNDERFITTING: "Even on its training images the network stays below what can be reached on such images.",
    rules.OVERFITTING: "The network learns the details and the noise of its training images, which do not help it on others.",
    rules.GOOD_FIT: "The distance between training and validation is small, and validation has learned and settled.",
    rules.INCONCLUSIVE: "What was measured cannot tell a good fit from the others.",
}
"""Meaning of each verdict."""

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
"""Text of each cause, as a clause that follows "because"."""

FLAGS = {
    OVERCONFIDENT: "validation loss rises while its accuracy holds: it becomes too sure of its mistakes",
    "no_clean_probe": "training was measured while learning, where dropout and augmentation make it look worse: a gap may hide",
}
"""Text of each flag."""


def as_record(
    diagnosis: Diagnosis,
    prescriptions: Sequence[Prescription],
    concerns: Sequence[Concern] = (),
    training: str | None = None,
) -> DiagnosisRecord:
    """The content of `diagnosis.json`.

    Args:
        diagnosis: Verdict and evidence.
        prescriptions: Changes to try, the most promising first.
        concerns: Findings beside the verdict.
        training: Our own id of the weights; None for the training of another tool.
    """
    evidence: dict[str, Interval | float | None] = {
        name: Interval(**asdict(fact)) if isinstance(fact, Estimate) else fact
        for name, fact in diagnosis.evidence.items()
    }
    return DiagnosisRecord(
        training=training,
        verdict=diagnosis.verdict,
        confidence=round(diagnosis.confidence, 4),
        close_call=diagnosis.close_call,
        sentence=diagnosis.sentence,
        meaning=MEANING[diagnosis.verdict],
        rule=diagnosis.rule,
        epoch=diagnosis.epoch,
        evidence=evidence,
        findings=[
            Found(name=each.name, present=each.present, interval=Interval(**asdict(each.estimate)), text=each.text)
            for each in diagnosis.findings
        ],
        causes=[CAUSES[cause] for cause in diagnosis.causes],
        flags={flag: FLAGS[flag] for flag in diagnosis.flags},
        not_judged=list(diagnosis.not_judged),
        settled_by=diagnosis.settled_by,
        prescriptions=[
            Prescribed(remedy=change.remedy, override=change.override, strengths=list(change.strengths))
            for change in prescriptions
        ],
        concerns=list(concerns),
    )


def as_lines(record: DiagnosisRecord) -> list[str]:
    """The diagnosis as lines for a terminal."""
    lines = [record.sentence, f"  {record.meaning}"]
    lines += [f"  {each.name.capitalize()}: {each.text}." for each in record.findings]
    lines += [f"  Because {cause}." for cause in record.causes]
    lines += [f"  Note: {text}." for text in record.flags.values()]
    lines += [f"  Concern: {concern.evidence} ({concern.name}). Next: {concern.step}." for concern in record.concerns]
    if record.settled_by:
        lines.append(f"  It would be settled by {record.settled_by}.")
    if record.close_call:
        lines.append(f"  A close call: {record.close_call}.")
    if record.not_judged:
        lines.append(f"  Not judged, for want of a signal or of epochs: {', '.join(record.not_judged)}.")
    lines += [f"  Try {prescription.override}  ({prescription.remedy})" for prescription in record.prescriptions]
    return lines
