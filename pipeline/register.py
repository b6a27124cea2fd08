"""Give a package a version in MLflow's registry: `champion` if it is surely better than the current one, else `challenger`.

Reads:   build/package/, and where the champion was tested on other images, build/prepare/ and data/
Writes:  build/register/: `receipt.json` (decision, reason and numbers); a version, its tags and its alias in the registry
Command: python -m pipeline.register                                  the package in build/package
         python -m pipeline.register register.package=outputs/…/package register.min_accuracy=0.9
         python -m pipeline.register register.package=models:/m-…     the package of a run in MLflow
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
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.tracking.store import Store

COMMANDS = ("history", "rollback")

ALREADY = "it is the champion already"


def main(job: Job) -> None:
    settings = job.config.register
    with tempfile.TemporaryDirectory() as scratch:
        folder = _folder(job, Path(scratch))
        for name in sorted(path.name for path in folder.iterdir()):
            checksums.check(folder / name)
        content = package.read(folder)
        if not (settings.enabled or job.alone):
            print("register: off (register.enabled=false); `python -m pipeline.register` registers this package")
            ReceiptRecord(
                decision="off", reason="register.enabled is false", name=None, model_version=None, package=_mark(folder),
                training=content.manifest.training, measured=None, comparison=None, candidates=0,
            ).write(job.out)  # fmt: skip
            return
        receipt = register(job.config, folder, content)
    receipt.write(job.out)
    print(printable(f"{receipt.name} version {receipt.model_version} is @{receipt.decision}: {receipt.reason}."))
    packages = "package" if receipt.candidates == 1 else "packages"
    print(f"Its test split has judged {receipt.candidates} {packages} under this name.")


def _folder(job: Job, scratch: Path) -> Path:
    from pipeline.tracking.addresses import is_address
    from pipeline.tracking.retrieval import package_folder

    chosen = job.config.register.package
    if chosen is None:
        return job.locate("package")
    if is_address(chosen):
        return package_folder(job.config.tracking, chosen, scratch)
    if not Path(chosen).is_dir():
        raise DataError(
            "register.package must be a folder that `python -m pipeline.package` wrote, or a model in MLflow, such as "
            f"models:/m-…; got {chosen!r}, which is {'a file' if Path(chosen).exists() else 'not there'}."
        )
    return Path(chosen)


def register(config: Config, folder: Path, content: Package) -> ReceiptRecord:
    """Give a package a version and its alias, after comparing it with the champion.

    The comparison, which may take long, is made before the registry is locked, and again if there is another champion by then.

    Args:
        config: Configuration.
        folder: Folder of the package.
        content: Its content.

    Raises:
        DataError: The store does not know the package.
        StoreError: The store is set wrongly or does not answer, or tracking is off.
    """
    from pipeline.tracking import delivery, registry

    name = config.register.name or registry.permitted(content.manifest.name)
    num_bytes = sum(signature.num_bytes for signature in content.manifest.files.values())
    measured = gate.measure(Classifier(content), content, num_bytes)
    delivery.deliver_waiting(config.tracking)
    with registry.opened(config.tracking) as store:
        logged = registry.logged_model(store, content.manifest.training, _mark(folder))
        registry.ensure_model(store, name)
        while True:
            before = registry.champion(store, name)
            decision, comparison = _decide(store, config, name, content, measured, before)
            with registry.locked(store, name, print) as is_mine:
                if registry.holder(store, name, registry.CHAMPION) == (before and str(before.version)) and is_mine():
                    version, candidates = _write(store, name, folder, content, logged, measured, decision)
                    break
            print(f"{name!r} has another champion by now; comparing with that one")
    return ReceiptRecord(
        decision="champion" if decision.promoted else "challenger", reason=decision.reason, name=name, model_version=version,
        package=_mark(folder), training=content.manifest.training, measured=measured, comparison=comparison,
        candidates=candidates,
    )  # fmt: skip


def _write(
    store: "Store", name: str, folder: Path, content: Package, logged: tuple[str, str], measured: Measured,
    decision: gate.Decision,
) -> tuple[str, int]:  # fmt: skip
    """Write a decision into the registry; gives the version, and how many packages its test split has judged."""
    from pipeline.tracking import registry

    manifest, test = content.manifest, digest(np.sort(gate.SeenImages.of(content).test).tolist())
    tags = {
        registry.FINGERPRINT: _mark(folder), registry.TEST: test,
        "verdict": manifest.verdict or "none", "data_hash": manifest.data_hash or "none",
        "test_accuracy": f"{measured.accuracy:.4f}" if measured.accuracy is not None else "not evaluated",
        "git_commit": (manifest.git_commit or "none") + (", with changes" if manifest.git_dirty else ""),
        "goodfit.fingerprint": manifest.fingerprints["train"],
    }  # fmt: skip
    if decision.reason != ALREADY:  # the reason stays that for which it became so
        tags[registry.REASON] = decision.reason
    card = (folder / CARD).read_text(encoding="utf-8")
    version = str(registry.add_version(store, name, *logged, tags, card).version)
    if decision.promoted:
        registry.promote(store, name, version)
    else:
        registry.challenge(store, name, version)
    known = registry.versions(store, name)
    judged = {each.tags.get(registry.FINGERPRINT) for each in known if each.tags.get(registry.TEST) == test}
    return version, len(judged)


def _decide(
    store: "Store", config: Config, name: str, content: Package, measured: Measured, champion: "ModelVersion | None"
) -> tuple[gate.Decision, Comparison | None]:
    from pipeline.tracking import registry, retrieval

    mark = _mark(Path(content.place))
    if champion is not None and champion.tags.get(registry.FINGERPRINT) == mark:
        return gate.Decision(True, ALREADY), None
    limits = gate.within_limits(measured, content.manifest.verdict, config.register)
    if not limits.promoted:
        return limits, None
    known = registry.with_package(registry.versions(store, name), mark)
    if known is not None and registry.ROLLED_BACK in known.tags:
        again = f"`python -m pipeline.register rollback --to {known.version}` makes it champion again"
        return gate.Decision(False, f"it was champion and has been taken back; {again}"), None
    if champion is None:
        return gate.Decision(True, "there was no champion, and it is within the limits"), None
    version = str(champion.version)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            its = package.read(retrieval.package_of_version(store, name, version, Path(scratch)))
        except DataError as error:
            return gate.Decision(False, f"the champion, version {version}, cannot be compared with: {error}"), None
        prepared = found_input("prepare", content.manifest.fingerprints["prepare"])
        data = lineage.dvc_folder("fetch") if prepared == lineage.dvc_folder("prepare") else None
        found = gate.compare(content, its, version, prepared, data)
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
    name = config.register.name or registry.permitted(_name_of_data(config))
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
