"""Audit the labels: which images look as if they were of another class, for a person to look at and to correct.

Each image outside of the test split is predicted by a classifier that was fitted without it and without those like it: a
logistic regression on the features of a pretrained network, or on the pixels where it predicts better from these. A label
looks wrong where the classifier is surer of another class than it usually is of that class (confident learning).

Reads:   conf/, params.yaml, build/prepare/: train, val and confirm
Writes:  outputs/audit/<time>/: `suspects.csv` (path, old label, new label, confidence) and `index.html` with the pictures
Command: python -m pipeline.audit
         python -m pipeline.audit data=folder data.source=photos
         python -m pipeline.audit --compare       what the corrections of data.relabel brought, on the same folds

The comparison fits the audit's classifier on the labels of before and on the corrected ones, on the same folds, judges both by
the corrected labels, and gives the difference with Tango's interval and McNemar's exact test; once on all images, and once on
those whose label stayed, which did not choose the corrections.
"""

import argparse
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline import terminal
from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.config.schema_data import Folder
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation import label_audit
from pipeline.evaluation.audited import Audited, Seen, audited, views
from pipeline.evaluation.label_audit import Audit, Suspects
from pipeline.evaluation.relabelling_gain import gain, sentence
from pipeline.stage import lineage
from pipeline.stage.program import as_program
from pipeline.storage import atomic
from pipeline.storage.tables import to_csv

COMMAND = "audit"
COLUMNS = ("path", "old", "new", "confidence", "probability", "split", "note")
NUM_NAMES = 10


def look(config: Config) -> tuple[Audited, Seen, Audit, Suspects]:
    """Audit the labels of a configuration's images.

    Raises:
        DataError: A class has too few images.
        UserError: The images cannot be had.
    """
    images = audited(config)
    try:
        seen = views(config, images)
        found = label_audit.audit(seen.views, images.labels, images.groups, config.seed)
    except ValueError as error:
        raise DataError(f"{images.dataset.name} must be larger for an audit: {error}.") from None
    return images, seen, found, label_audit.suspects(found)


def table(images: Audited, suspects: Suspects) -> str:
    """`suspects.csv`: the suspects, the surest first, and the corrections that hold already."""
    names = images.dataset.classes
    rows: list[list[object]] = []
    for place, image in enumerate(suspects.images.tolist()):
        if (path := images.paths[image]) not in images.corrected:
            labels = names[suspects.labels[place]], names[suspects.likely[place]]
            numbers = f"{suspects.confidence[place]:.3f}", f"{suspects.probability[place]:.3f}"
            rows.append([path, *labels, *numbers, images.splits[image], ""])
    rows += [
        [path, old, images.now[path], None, None, None, "of data.relabel"] for path, old in images.corrected.items()
    ]
    return to_csv(COLUMNS, rows)


def write(config: Config, folder: Path) -> None:
    """Audit, write the table and the page into `folder`, and print the first suspects and what comes next."""
    from pipeline.page import audit as page

    images, seen, found, suspects = look(config)
    atomic.write_text(folder / "suspects.csv", table(images, suspects))
    atomic.write_text(folder / "index.html", page.render(images, seen, found, suspects))
    page.print_summary(images, found, suspects, NUM_NAMES)
    csv = os.path.relpath(folder / "suspects.csv", lineage.ROOT)
    print(f"Look at {os.path.relpath(folder / 'index.html')}")
    if len(suspects.images) == 0:
        return
    if isinstance(config.data, Folder):
        print(
            terminal.printable(
                f"Take out of {csv} the rows whose old label is right, correct `new` where it is wrong, then: "
                f"dvc exp run -S ++data.relabel={csv}"
            )
        )
    else:
        print(f"data.relabel corrects labels of your own images (data.name=folder), not those of {config.data.name}")


def compare(config: Config) -> None:
    """Print what the corrections of `data.relabel` brought.

    Raises:
        ConfigError: No label of an audited image is corrected.
        DataError: A class has too few images.
    """
    images = audited(config)
    names = list(dict.fromkeys([*images.dataset.classes, *images.corrected.values()]))
    before = images.labels.copy()
    for place, path in enumerate(images.paths):
        if path in images.corrected:
            before[place] = names.index(images.corrected[path])
    if (before == images.labels).all():
        raise ConfigError(
            "data.relabel must correct labels outside of the test split before a comparison; it corrects none. Run "
            "`python -m pipeline.audit` and name the suspects.csv that you looked through."
        )
    try:
        found, view = gain(views(config, images).views, before, images.labels, images.groups, config.seed)
    except ValueError as error:
        raise DataError(f"{images.dataset.name} must be larger for an audit: {error}.") from None
    print(
        f"{found.corrected:,} of {len(before):,} labels are corrected. Out-of-fold accuracy of a logistic regression on {view} "
        f"before, judged by the labels of before: {found.measured_before:.3f}"
    )
    print("After less before, on the same folds and judged by the corrected labels:")
    print(f"  {sentence(found.all, 'all images')}")
    if found.untouched is not None:
        print(f"  {sentence(found.untouched, 'images whose label stayed')}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(f"python -m pipeline.{COMMAND}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("overrides", nargs="*", help="overrides of the configuration: key=value")
    parser.add_argument("--compare", action="store_true", help="tell what the corrections of data.relabel brought")
    options = parser.parse_intermixed_args(arguments)
    config = composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", options.overrides)
    if config.prepare.random_labels:
        raise ConfigError(
            f"prepare.random_labels must be 0 for an audit, as it makes labels wrong; got {config.prepare.random_labels}."
        )
    if options.compare:
        return compare(config)
    write(config, lineage.ROOT / "outputs" / COMMAND / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f"))


if __name__ == "__main__":
    with as_program():
        main()
