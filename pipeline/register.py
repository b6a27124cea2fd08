"""Give a package a version in MLflow's registry: `champion` if it is surely better than the current one, else `challenger`.

Reads:   build/package/, and where the champion was tested on other images, build/prepare/ and data/
Writes:  build/register/: `receipt.json` (decision, reason and numbers); a version, its tags and its alias in the registry
Command: python -m pipeline.register                                  the package in build/package
         python -m pipeline.register register.package=outputs/…/package register.min_accuracy=0.9
         python -m pipeline.register history                          the versions, their aliases, and why
         python -m pipeline.register rollback [--to VERSION]          the champion before, or that version, again
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artefacts.package import CARD
from pipeline.artefacts.receipt import Comparison, Measured, ReceiptRecord
from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.delivery import gate, package
from pipeline.delivery.classifier import Classifier
from pipeline.delivery.package import Package
from pipeline.errors import DataError
from pipeline.stage import lineage
from pipeline.stage.inputs import found_input
from pipeline.stage.job import Job
from pipeline.storage import checksums
from pipeline.storage.digests import digest
from pipeline.terminal import printable

if TYPE_CHECKING:
    from pipeline.tracking.store import Store

COMMANDS = ("history", "rollback")


def main(job: Job) -> None:
    settings = job.config.register
    folder = Path(settings.package) if settings.package else job.locate("package")
    for name in sorted(path.name for path in folder.iterdir()):
        checksums.check(folder / name)
    content = package.read(folder)
    mark = _mark(folder)
    if not (settings.enabled or job.alone):
        print("register: off (register.enabled=false); `python -m pipeline.register` registers this package")
        ReceiptRecord(
            decision="off", reason="register.enabled is false", name=None, version=None, package=mark,
            training=content.manifest.training, measured=None, comparison=None, candidates=0,
        ).write(job.out)  # fmt: skip
        return
    receipt = register(job.config, folder, content)
    receipt.write(job.out)
    print(printable(f"{receipt.name} version {receipt.version} is @{receipt.decision}: {receipt.reason}."))
    print(f"This test split has judged {receipt.candidates} under this name.")


def register(config: Config, folder: Path, content: Package) -> ReceiptRecord:
    """Give a package a version and its alias, after comparing it with the champion.

    Args:
        config: Configuration.
        folder: Folder of the package.
        content: Its content.

    Raises:
        DataError: The store does not know the package, or does not answer.
        StoreError: The store is set wrongly, or tracking is off.
    """
    from pipeline.tracking import delivery, registry
    from pipeline.tracking.model import FINGERPRINT

    name = config.register.name or content.manifest.name
    delivery.deliver_waiting(config.tracking)
    with registry.opened(config.tracking) as store:
        mark, manifest = _mark(folder), content.manifest
        run_id, model_id = registry.logged_model(store, manifest.training, mark)
        num_bytes = sum(signature.num_bytes for signature in manifest.files.values())
        measured = gate.measure(Classifier(content), content, num_bytes)
        seen = gate.SeenImages.of(content)
        test = digest(np.sort(seen.test).tolist())
        registry.ensure_model(store, name)
        with registry.locked(store, name, print):
            decision, comparison = _decide(store, config, name, content, measured, mark)
            tags = {
                FINGERPRINT: mark, registry.TEST: test, registry.REASON: decision.reason,
                "verdict": manifest.verdict or "none",
                "test_accuracy": f"{measured.accuracy:.4f}" if measured.accuracy is not None else "not evaluated",
                "git_commit": manifest.git_commit or "none", "data_hash": manifest.data_hash or "none",
                "fingerprint": manifest.fingerprints["train"],
            }  # fmt: skip
            card = (folder / CARD).read_text(encoding="utf-8")
            version = registry.add_version(store, name, run_id, model_id, tags, card)
            alias = registry.CHAMPION if decision.promoted else registry.CHALLENGER
            registry.set_alias(store, name, str(version.version), alias)
            known = registry.versions(store, name)
            judged = {each.tags.get(FINGERPRINT) for each in known if each.tags.get(registry.TEST) == test}
        return ReceiptRecord(
            decision="champion" if decision.promoted else "challenger", reason=decision.reason, name=name,
            version=str(version.version), package=mark, training=manifest.training, measured=measured, comparison=comparison,
            candidates=len(judged),
        )  # fmt: skip


def _decide(
    store: "Store", config: Config, name: str, content: Package, measured: Measured, mark: str
) -> tuple[gate.Decision, Comparison | None]:
    from pipeline.tracking import registry
    from pipeline.tracking.model import FINGERPRINT

    limits = gate.within_limits(measured, content.manifest.verdict, config.register)
    now = registry.champion(store, name)
    if now is not None and now.tags.get(FINGERPRINT) == mark:
        return gate.Decision(True, "it is the champion already"), None
    if not limits.promoted:
        return limits, None
    if now is None:
        return gate.Decision(True, "there was no champion, and it is within the limits"), None
    with tempfile.TemporaryDirectory() as scratch:
        its = package.read(registry.download(store, name, str(now.version), Path(scratch)))
        prepared = found_input("prepare", content.manifest.fingerprints["prepare"])
        data = lineage.dvc_folder("fetch") if prepared == lineage.dvc_folder("prepare") else None
        found = gate.compare(content, its, str(now.version), prepared, data)
    if isinstance(found, str):
        return gate.Decision(False, found), None
    return gate.against_champion(found, config.register.margin), found


def command(arguments: list[str]) -> None:
    """Show the versions, or take the champion back."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.register", description=__doc__)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--to", metavar="VERSION", help="version that becomes champion again; default: the one before")
    parser.add_argument("overrides", nargs="*", help="key=value, such as register.name=…")
    options = parser.parse_intermixed_args(arguments)
    from pipeline.tracking import registry

    config = composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", options.overrides)
    name = config.register.name or _name_of_data(config)
    with registry.opened(config.tracking) as store:
        known = registry.versions(store, name)
        if not known:
            raise DataError(f"register.name must be registered in {store.shown}; {name!r} is not.")
        if options.what == "rollback":
            with registry.locked(store, name, print):
                now, before = registry.roll_back(store, name, options.to)
            print(printable(f"{name} version {now} is @champion again, in place of version {before}."))
            return
        aliases = store.client.get_registered_model(name).aliases
        for version in known:
            held = " ".join(
                f"@{alias}" for alias, number in sorted(aliases.items()) if str(number) == str(version.version)
            )
            reason, accuracy = version.tags.get(registry.REASON, ""), version.tags.get("test_accuracy", "")
            back = ", rolled back" if registry.ROLLED_BACK in version.tags else ""
            print(printable(f"{name} {version.version:>3} {held or '-':<22} {accuracy:<8} {reason}{back}"))


def _name_of_data(config: Config) -> str:
    folder = lineage.dvc_folder("package")
    return package.read(folder).manifest.name if folder.is_dir() else config.data.name


def _mark(folder: Path) -> str:
    from pipeline.tracking.model import version_of

    return version_of(folder)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        from pipeline.stage.program import as_program

        with as_program():
            command(sys.argv[1:])
    else:
        from pipeline.stage.entry import run
        from pipeline.sweep.command import multirun

        run("register", main, multirun())
