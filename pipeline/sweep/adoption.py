"""The command that makes `params.yaml` say what the best job of a sweep said."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import composition, validation
from pipeline.config.schema import OPTIONS

KEPT = ("seed", "fail_fast", "ablate", "cure", "learning_curve", "tracking")
"""What a winner does not decide."""

FOLDS = ("prepare.folds", "prepare.fold")
"""Cross-validation chose the winner; what adopts it trains on all images again."""


def command(conf: Path, params_file: Path, winner: dict[str, Any]) -> str | None:
    """The `dvc exp run` that adopts `winner`; None where `params.yaml` says the same already.

    Args:
        conf: The folder of groups and options.
        params_file: The `params.yaml` that is to change.
        winner: The whole configuration of a job.
    """
    changes = assignments(conf, params_file, winner)
    if not changes:
        return None
    return "dvc exp run " + " ".join(f"-S {shlex.quote(change)}" for change in changes)


def applied(conf: Path, params_file: Path, winner: dict[str, Any]) -> str:
    """The text of `params_file` once it composes to `winner`, as `dvc exp run -S` would write it, comments kept."""
    import tempfile

    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / params_file.name
        copy.write_text(params_file.read_text())
        apply_overrides(str(copy), assignments(conf, params_file, winner))
        return copy.read_text()


def assignments(conf: Path, params_file: Path, winner: dict[str, Any]) -> list[str]:
    """What `-S` has to set, one after the other, so that `params_file` composes to `winner`."""
    written = validation.read_yaml(params_file)
    now = composition.compose(conf, params_file, []).model_dump()
    groups = [group for group in (*OPTIONS, "augment") if winner[group]["name"] != now[group]["name"]]
    chosen = [f"{group}={winner[group]['name']}" for group in groups]
    if chosen:
        now = composition.compose(conf, params_file, chosen).model_dump()
    changes = [f"++{choice}" for choice in chosen]
    for section in winner:
        if section in KEPT:
            continue
        is_group = section in OPTIONS or section == "augment"
        if is_group and (section in groups or not isinstance(written.get(section), dict)):
            # A bare name, or nothing: a key alone would become a mapping without a name.
            own = {key: value for key, value in winner[section].items() if value != now[section][key]}
            pairs = "".join(f",{key}:{composition.quote(value)}" for key, value in own.items())
            changes += [f"++{section}={{name:{winner[section]['name']}{pairs}}}"] if own else []
        else:
            differing = _differing(section, winner[section], now[section])
            changes += [f"++{path}={composition.quote(value)}" for path, value in differing if path not in FOLDS]
    return changes


def _differing(path: str, wanted: Any, found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(wanted, dict) and isinstance(found, dict) and wanted.keys() == found.keys():
        for key in wanted:
            yield from _differing(f"{path}.{key}", wanted[key], found[key])
    elif wanted != found:
        yield path, wanted
