"""Trainings fetched back from the tracking store."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.config.errors import DataError
from pipeline.tracking.store import Settings, connect

FILES = ("run.json", "signals.json", "history.csv")


def trainings(settings: Settings, run_id: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    """The finished training of a run, or those of a sweep's children.

    Args:
        settings: Where the store is.
        run_id: Of a training or of a sweep.
        scratch: Where to put the files.

    Yields:
        The name of each run, and a folder with its `run.json`, `signals.json` and `history.csv`.

    Raises:
        DataError: The store does not answer or does not know the run, or no finished training is in it.
    """
    from mlflow.exceptions import MlflowException

    try:
        store = connect(settings)
        run = store.client.get_run(run_id)
        children = store.client.search_runs(
            [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["attributes.start_time"]
        )
    except MlflowException as error:
        raise DataError(
            f"--run must be a run of {settings.resolved_uri()}; got {run_id!r}: {' '.join(str(error).split())}"
        ) from None
    count = 0
    for each in children or [run]:
        found = {file.path for file in store.client.list_artifacts(each.info.run_id, "training")}
        if not {f"training/{name}" for name in FILES} <= found:
            continue
        folder = scratch / each.info.run_id
        folder.mkdir()
        for name in FILES:
            got = Path(store.client.download_artifacts(each.info.run_id, f"training/{name}", str(folder)))
            got.replace(folder / name)  # stores differ in whether they keep its folder
        count += 1
        yield str(each.info.run_name), folder
    if not count:
        raise DataError(
            f"--run must hold a finished training of this pipeline, or be a sweep of some; got {run_id!r}. Export the history "
            "of another tool's run as CSV, and give it with --history."
        )
