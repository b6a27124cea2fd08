"""Names the tags of runs: those that a person filters on are short, all others begin with `goodfit.`."""

from collections.abc import Mapping

VERDICT = "verdict"
"""Verdict of `diagnose`."""

CONCERNS = "concerns"
"""Names of the concerns, with commas between them."""

DATA = "data"
"""Name of the dataset."""

MODEL = "model"
"""Name of the network."""

OVERRIDES = "overrides"
"""What the command line changed."""

EXPERIMENT = "dvc_experiment"
"""Name of the DVC experiment."""

SHORT = (VERDICT, CONCERNS, DATA, MODEL, OVERRIDES, EXPERIMENT)

ID = "goodfit.id"
"""Our own id of a run."""

PARENT = "goodfit.parent"
"""Our own id of the run above, which may come into the store after it."""

COMPLETE = "goodfit.complete"
"""Set once all of a training has arrived."""

LOGGED_MODEL = "goodfit.logged_model"
"""MLflow's id of a run's package."""

NOTE = "mlflow.note.content"
"""The description that MLflow shows, in Markdown."""

FORMER = {
    "goodfit.verdict": VERDICT, "goodfit.concerns": CONCERNS, "goodfit.overrides": OVERRIDES,
    "goodfit.dvc_experiment": EXPERIMENT, "goodfit.model": LOGGED_MODEL,
}  # fmt: skip
"""Names of earlier versions, which runs and entries of the spool may still have, with those of today."""


def current(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags by the names of today; where a tag has both, the value under today's.

    >>> current({"goodfit.verdict": "good_fit", "goodfit.id": "a"})
    {'verdict': 'good_fit', 'goodfit.id': 'a'}
    """
    return {FORMER.get(key, key): tags.get(FORMER.get(key, key), value) for key, value in tags.items()}


def without_own(tags: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The tags by the names of today, less those that the user has given a value in `tracking.tags`.

    >>> without_own({"goodfit.verdict": "good_fit", "concerns": ""}, {"verdict": "mine"})
    {'concerns': ''}
    """
    return {key: value for key, value in current(tags).items() if key not in own}
