"""Registers packages in MLflow's registry, one at a time, and moves the aliases `champion` and `challenger`."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import Tracking
from pipeline.errors import DataError, StoreError
from pipeline.tracking import runs
from pipeline.tracking.model import FINGERPRINT
from pipeline.tracking.store import Refused, Store, StoreAway, address, answers, connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"

TEST, REASON, SINCE, ROLLED_BACK = "goodfit.test", "goodfit.reason", "goodfit.champion_since", "goodfit.rolled_back"
"""Tags of a version: digest of its test images, why it has its alias, when it became champion (Unix seconds), and whether it
has been taken back."""

LOCK = "goodfit.lock"
"""Tag of a registered model with the token of whoever changes its aliases."""

SETTLE_SECONDS = 0.5
"""Time to wait between writing the token and reading it back: longer than a write takes."""

GIVE_UP_SECONDS = 60.0
"""Age of a token, as this process has seen it, after which its holder counts as dead."""


@contextmanager
def opened(settings: Tracking) -> Iterator[Store]:
    """The store whose registry the block works on.

    Raises:
        StoreError: Tracking is off, or the store does not answer or refuses something.
    """
    if not settings.enabled:
        raise StoreError("tracking.enabled must be true for MLflow's registry; got false. Set tracking.enabled=true.")
    try:
        with answers():
            yield connect(settings)
    except StoreAway as error:
        raise StoreError(
            f"the registry of {address(settings)} must answer; it does not ({error}). What is registered stays as it was or "
            "is complete; run the command again."
        ) from None
    except Refused as error:
        raise StoreError(f"the registry of {address(settings)} must take this; it answers: {error}") from None


def champion(store: Store, name: str) -> "ModelVersion | None":
    """The version with the alias `champion`; None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def versions(store: Store, name: str) -> list["ModelVersion"]:
    """The versions of a registered model, the newest first."""
    found, token = [], None
    while True:
        page = store.client.search_model_versions(f"name = '{_quoted(name)}'", page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return sorted(found, key=lambda version: -int(version.version))


def ensure_model(store: Store, name: str) -> None:
    """Make the registered model where it is missing."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def logged_model(store: Store, training_id: str, package: str) -> tuple[str, str]:
    """The run of a training, and its logged model with the package of that digest.

    Raises:
        DataError: The store does not know them.
    """
    run_id = runs.with_id(store, training_id)
    if run_id is not None:
        for model in store.client.search_logged_models([store.experiment_id], f"source_run_id = '{run_id}'"):
            if model.tags.get(FINGERPRINT) == package and str(model.status) == "READY":
                return run_id, str(model.model_id)
    raise DataError(
        f"register.package must have been logged to {store.shown}; it holds no model with the package {package}. Run "
        "`python -m pipeline.sync` if it waits, or `dvc repro --force package`."
    )


def add_version(
    store: Store, name: str, run_id: str, model_id: str, tags: Mapping[str, str], description: str
) -> "ModelVersion":
    """The version of a logged model, created where it is missing, with these tags."""
    known = [version for version in versions(store, name) if version.tags.get(FINGERPRINT) == tags[FINGERPRINT]]
    if known:
        version = known[-1]
    else:
        version = store.client.create_model_version(
            name, f"models:/{model_id}", run_id, dict(tags), description=description, model_id=model_id
        )
    for key, value in tags.items():
        store.client.set_model_version_tag(name, version.version, key, value)
    return version


def set_alias(store: Store, name: str, version: str, alias: str) -> None:
    """Give a version the alias `champion` or `challenger`; a champion is no challenger any more."""
    if alias == CHAMPION:
        store.client.set_model_version_tag(name, version, SINCE, str(time.time()))
        store.client.delete_model_version_tag(name, version, ROLLED_BACK)
    store.client.set_registered_model_alias(name, alias, version)
    if alias == CHAMPION and version in _holders(store, name, CHALLENGER):
        store.client.delete_registered_model_alias(name, CHALLENGER)


def roll_back(store: Store, name: str, to: str | None) -> tuple[str, str]:
    """Make the champion before the current one champion again, or the version `to`; gives both numbers, the new one first.

    Raises:
        DataError: There is no such version, no champion, or none before it.
    """
    now = champion(store, name)
    if now is None:
        raise DataError(f"register.name must have a champion to roll back; {name!r} has none in {store.shown}.")
    known = {version.version: version for version in versions(store, name)}
    if to is None:
        earlier = [
            version for version in known.values()
            if SINCE in version.tags and version.version != now.version and ROLLED_BACK not in version.tags
            and float(version.tags[SINCE]) < float(now.tags.get(SINCE, "inf"))
        ]  # fmt: skip
        if not earlier:
            raise DataError(f"register.name must have had a champion before version {now.version}; {name!r} had none.")
        to = str(max(earlier, key=lambda version: float(version.tags[SINCE])).version)
    elif to not in known:
        raise DataError(f"--to must be a version of {name!r}: {', '.join(sorted(known, key=int))}; got {to!r}.")
    store.client.set_model_version_tag(name, now.version, ROLLED_BACK, "true")
    set_alias(store, name, to, CHAMPION)
    return to, str(now.version)


def download(store: Store, name: str, version: str, scratch: Path) -> Path:
    """Download the package of a version; gives its folder.

    Raises:
        DataError: The version holds no package.
    """
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(f"models:/{name}/{version}", dst_path=str(scratch), tracking_uri=store.uri))
    package = folder / "artifacts" / "package"
    if not package.is_dir():
        raise DataError(f"version {version} of {name!r} must hold a package of goodfit; it holds none.")
    return package


@contextmanager
def locked(store: Store, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time, of all machines, decide about a registered model.

    MLflow's registry has no transactions, so that this is Fischer's algorithm on a tag (Lamport 1987, "A fast mutual
    exclusion algorithm", section 2): write a token once none is there, wait longer than a write takes, and go on if it still
    stands.

    Args:
        store: Store of the registry.
        name: Name of the registered model.
        say: Takes a line where another process is waited for.
    """
    token, seen, since, told = uuid.uuid4().hex, "", time.monotonic(), False
    while True:
        held = store.client.get_registered_model(name).tags.get(LOCK, "")
        if held != seen:
            seen, since = held, time.monotonic()
        if held and time.monotonic() - since < GIVE_UP_SECONDS:
            if not told:
                say(f"another process registers {name!r} at this moment; waiting for it")
                told = True
            time.sleep(SETTLE_SECONDS)
            continue
        store.client.set_registered_model_tag(name, LOCK, token)
        time.sleep(SETTLE_SECONDS)
        if store.client.get_registered_model(name).tags.get(LOCK) == token:
            break
    try:
        yield
    finally:
        if store.client.get_registered_model(name).tags.get(LOCK) == token:
            store.client.delete_registered_model_tag(name, LOCK)


def _holders(store: Store, name: str, alias: str) -> list[str]:
    holder = store.client.get_registered_model(name).aliases.get(alias)
    return [] if holder is None else [str(holder)]


def _quoted(name: str) -> str:
    return name.replace("'", "''")
