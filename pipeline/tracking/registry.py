"""Registers packages in MLflow's registry, one at a time, and moves the aliases `champion` and `challenger`.

Each function that writes leaves what is as it should be, so that a second run completes what a kill has cut off.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.config.schema import Tracking
from pipeline.errors import DataError, StoreError
from pipeline.tracking import runs
from pipeline.tracking.model import FINGERPRINT
from pipeline.tracking.store import Refused, Store, StoreAway, address, answers, connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"

MAX_CHARACTERS = 5000
"""Longest description, and longest value of a tag, that MLflow's databases hold."""

TEST, REASON, SINCE, ROLLED_BACK = "goodfit.test", "goodfit.reason", "goodfit.champion_since", "goodfit.rolled_back"
"""Tags of a version: digest of its test images, why it has its alias, when it became champion (Unix seconds), and whether it
has been taken back."""

_VERSIONS = "mlflow.modelVersions"
"""Tag of a logged model with its versions in the registry, as JSON."""

LOCK = "goodfit.lock"
"""Tag of a registered model with the token of whoever changes its aliases."""

SETTLE_SECONDS = 0.5
"""Least time to wait between writing the token and reading it back: longer than a write takes."""

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


def permitted(dataset: str) -> str:
    """The name for a dataset's models: MLflow takes no `/` and `:`, in addresses no `?`, and in filters no `"`.

    >>> permitted("shoes/2026:left")
    'shoes-2026-left'
    """
    name = re.sub('[/:?"]', "-", dataset).strip()
    return name if name.strip(".") else "unnamed"


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
        page = store.client.search_model_versions(f'name = "{name}"', page_token=token)
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
        "`python -m pipeline.sync` if it waits, or make it again: `dvc repro --single-item --force package`."
    )


def with_package(known: list["ModelVersion"], package: str) -> "ModelVersion | None":
    """The first of these versions whose package has that digest; None where there is none."""
    return next((version for version in reversed(known) if version.tags.get(FINGERPRINT) == package), None)


def add_version(
    store: Store, name: str, run_id: str, model_id: str, tags: Mapping[str, str], description: str
) -> "ModelVersion":
    """The version of a logged model, created where it is missing, with these tags."""
    import mlflow

    mlflow.set_tracking_uri(store.uri)  # a database looks the model up there, whatever its own address is
    tags = {key: _cut(text) for key, text in tags.items()}
    version = with_package(versions(store, name), tags[FINGERPRINT])
    if version is None:
        version = store.client.create_model_version(
            name, f"models:/{model_id}", run_id, dict(tags), description=_cut(description), model_id=model_id
        )
    else:
        for key, value in tags.items():
            if version.tags.get(key) != value:
                store.client.set_model_version_tag(name, version.version, key, value)
    _tell_model(store, model_id, name, str(version.version))
    return version


def promote(store: Store, name: str, version: str, *, keep_place: bool = False) -> None:
    """Make a version the champion; it is no challenger any more.

    Args:
        store: Store of the registry.
        name: Name of the registered model.
        version: Number of the version.
        keep_place: Leave it the place that it has in the order of champions.
    """
    before = holder(store, name, CHAMPION)
    if before != version:
        store.client.set_registered_model_alias(name, CHAMPION, version)
    known = {str(each.version): each.tags for each in versions(store, name)}
    if SINCE not in known[version] or (before != version and not keep_place):
        # later than every other, whatever the clocks of the machines say
        latest = max((float(tags[SINCE]) for tags in known.values() if SINCE in tags), default=0.0)
        store.client.set_model_version_tag(name, version, SINCE, f"{max(time.time(), latest + 0.001):.3f}")
    if ROLLED_BACK in known[version]:
        store.client.delete_model_version_tag(name, version, ROLLED_BACK)
    if holder(store, name, CHALLENGER) == version:
        store.client.delete_registered_model_alias(name, CHALLENGER)


def challenge(store: Store, name: str, version: str) -> None:
    """Make a version the challenger."""
    if holder(store, name, CHALLENGER) != version:
        store.client.set_registered_model_alias(name, CHALLENGER, version)


def holder(store: Store, name: str, alias: str) -> str | None:
    """The number of the version with an alias; None where there is none."""
    number = store.client.get_registered_model(name).aliases.get(alias)
    return None if number is None else str(number)


def roll_back(store: Store, name: str, to: str | None) -> tuple[str, str]:
    """Make the champion before the current one champion again, or the version `to`; gives both numbers, the new one first.

    Going back, the current champion and those between count as taken back.

    Raises:
        DataError: There is no such version, no champion, or none before it.
    """
    now = champion(store, name)
    if now is None:
        raise DataError(f"register.name must have a champion to roll back; {name!r} has none in {store.shown}.")
    known = {str(version.version): version for version in versions(store, name)}
    since = {
        number: float(version.tags[SINCE]) for number, version in known.items()
        if SINCE in version.tags and ROLLED_BACK not in version.tags
    }  # fmt: skip
    before = str(now.version)
    if to is None:
        earlier = [number for number in since if number != before]
        if not earlier:
            raise DataError(f"register.name must have had a champion before version {before}; {name!r} had none.")
        to = max(earlier, key=lambda number: since[number])
    elif to not in known:
        raise DataError(f"--to must be a version of {name!r}: {', '.join(sorted(known, key=int))}; got {to!r}.")
    elif to == before:
        raise DataError(f"--to must be another version than the champion; got {to!r}, which is @champion already.")
    was_champion = to in since
    skipped = {before, *(number for number in since if since[number] > since[to])} if was_champion else set()
    for number in sorted(skipped, key=int):
        store.client.set_model_version_tag(name, number, ROLLED_BACK, "true")
    promote(store, name, to, keep_place=was_champion)
    return to, before


@contextmanager
def locked(store: Store, name: str, say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Let one process at a time, of all machines, change a registered model. Gives a function that tells whether it still may.

    MLflow's registry has no transactions, so that this is Fischer's algorithm on a tag (Lamport 1987, "A fast mutual
    exclusion algorithm", section 2): write a token once none is there, wait longer than a write takes, and go on if it still
    stands. A process that was stopped for longer than `GIVE_UP_SECONDS` has lost its token, and sees so before it writes.

    Args:
        store: Store of the registry.
        name: Name of the registered model.
        say: Takes a line where another process is waited for.
    """
    token, seen, since, told = uuid.uuid4().hex, "", time.monotonic(), False

    def is_mine() -> bool:
        return bool(store.client.get_registered_model(name).tags.get(LOCK) == token)

    while True:
        begin = time.monotonic()
        held = store.client.get_registered_model(name).tags.get(LOCK, "")
        if held != seen:
            seen, since = held, time.monotonic()
        if held not in ("", token) and time.monotonic() - since < GIVE_UP_SECONDS:
            if not told:
                say(f"another process registers {name!r} at this moment; waiting for it")
                told = True
            time.sleep(SETTLE_SECONDS)
            continue
        if not _is_written(store, name, token, over=held):
            continue
        time.sleep(max(SETTLE_SECONDS, 2 * (time.monotonic() - begin)))
        if is_mine():
            break
    try:
        yield is_mine
    finally:
        if is_mine():
            store.client.delete_registered_model_tag(name, LOCK)


def _is_written(store: Store, name: str, token: str, over: str) -> bool:
    """Write a token over the one seen last. False where another process was faster: databases refuse a second row then."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.set_registered_model_tag(name, LOCK, token)
    except MlflowException:
        found = store.client.get_registered_model(name).tags.get(LOCK, "")
        if over or found in ("", token):
            raise
        return False
    return True


def _tell_model(store: Store, model_id: str, name: str, version: str) -> None:
    """Name the version in the tags of its logged model, whose page else says "Not registered"; a server has done so itself."""
    told = json.loads(store.client.get_logged_model(model_id).tags.get(_VERSIONS, "[]"))
    if (name, version) not in [(each["name"], str(each["version"])) for each in told]:
        store.client.set_logged_model_tags(
            model_id, {_VERSIONS: json.dumps([*told, {"name": name, "version": version}])}
        )


def _cut(text: str) -> str:
    """The text, as far as MLflow's databases hold it."""
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 2] + " …"
