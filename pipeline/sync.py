"""Send to MLflow what could not be sent while its store was away; other commands do it too, before what they send themselves.

Reads:   build/spool/
Command: python -m pipeline.sync                                every store for which something waits
         python -m pipeline.sync tracking.uri=http://me:…@host  with the password of one, which is kept nowhere

Exits with 1 where a store does not answer, and where something still waits or was refused.
"""

import argparse
import sys

from pipeline.config import composition
from pipeline.config.schema import Tracking
from pipeline.errors import StoreError
from pipeline.stage import lineage
from pipeline.stage.program import as_program


def main(arguments: list[str] | None = None) -> int:
    """Send what waits, entry by entry; gives the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipeline.sync", description=__doc__, formatter_class=raw)
    parser.add_argument("overrides", nargs="*", help="key=value, such as tracking.uri=…")
    options = parser.parse_args(arguments)
    from pipeline.tracking import spool
    from pipeline.tracking.store import place

    settings = composition.values(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", options.overrides)[
        "tracking"
    ]
    chosen = Tracking.model_validate(settings)
    stores = spool.stores()
    if not stores:
        print("Nothing waits.")
    succeeded = [
        _sync(chosen if store == place(chosen) else chosen.model_copy(update={"uri": store})) for store in stores
    ]
    refused = spool.refused()
    if refused:
        print(
            f"error: {len(refused)} refused by their store; the reason is beside each:",
            *refused,
            sep="\n",
            file=sys.stderr,
        )
    return 0 if all(succeeded) and not refused else 1


def _sync(settings: Tracking) -> bool:
    """Send what waits for a store, and tell whether all of it has arrived."""
    from pipeline.tracking import delivery, spool
    from pipeline.tracking.store import StoreAway, address

    folder, place = spool.folder_of(settings), address(settings)
    total = len(spool.waiting(folder))
    print(f"{place}: {total} to send", flush=True)
    try:
        for outcome in delivery.deliver(settings):
            print(f"  {total - outcome.num_waiting}/{total} {outcome}", flush=True)
    except StoreAway as error:
        left = len(spool.waiting(folder))
        print(f"error: {place} must answer; it does not ({error}). {left} of {total} wait.", file=sys.stderr)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
    return not spool.waiting(folder)


if __name__ == "__main__":
    with as_program():
        sys.exit(main())
