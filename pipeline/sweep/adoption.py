"""Writes the command that gives `params.yaml` the values of a sweep's best job."""

import io
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.config import composition, validation
from pipeline.config.grammar import quote
from pipeline.config.schema import OPTIONS
from pipeline.errors import ConfigError

KEPT = ("seed", "fail_fast", "ablate", "cure", "learning_curve", "starts", "tracking")
"""Sections that a winner does not decide."""

FOLDS = ("prepare.folds", "prepare.fold", "prepare.repeat", "prepare.test_fraction")
"""Keys that a winner of a cross-validation does not decide either: the next training takes all images and tests again."""

_UNRESOLVED = "$__{"
"""Stands for `${` in `params.yaml` while DVC changes other keys: it would write the value of each `${oc.env:NAME}`."""


def command(conf: Path, params_file: Path, winner: Mapping[str, Any]) -> str | None:
    """The `dvc exp run` that adopts `winner`; None where `params.yaml` says the same already.

    Args:
        conf: Folder of groups and options.
        params_file: File to change, `params.yaml`.
        winner: Whole configuration of a job.

    Raises:
        ConfigError: DVC would write a file that nothing reads.
    """
    changes = assignments(conf, params_file, winner)
    if not changes:
        return None
    text = params_file.read_text()
    if set("{[") & set(text) and not _is_readable(_changed(text, changes)):
        raise ConfigError(
            f"{params_file} must have each key on a line of its own; between braces, DVC writes a text that begins with : or ? "
            "without quotes, and then no program reads the file."
        )
    return "dvc exp run " + " ".join(f"-S {shlex.quote(change)}" for change in changes)


def applied(conf: Path, params_file: Path, winner: Mapping[str, Any]) -> str:
    """The text of `params_file` once it composes to `winner`, as `dvc exp run -S` would write it, comments kept.

    What stands in braces is put on lines of its own where it could not be read otherwise. A group that was a mapping with a
    name stays one, so that `-S model.width=2` still finds it.
    """
    old, written = params_file.read_text().replace("${", _UNRESOLVED), validation.read_yaml(params_file)
    changes = [each for change in assignments(conf, params_file, winner) for each in _as_mapping(change, written)]
    new = _changed(old, changes)
    if not _is_readable(new):
        new = _changed(_without_braces(old), changes)
    return _with_nulls(new).replace(_UNRESOLVED, "${")


def _as_mapping(change: str, written: Mapping[str, Any]) -> list[str]:
    """The choice of an option, as a name first: a mapping alone would be merged into that of the option before.

    >>> _as_mapping("++model=convnet", {"model": {"name": "lenet", "width": 8}})
    ['++model=convnet', '++model={name:convnet}']
    >>> _as_mapping("++model=convnet", {"model": "lenet"})
    ['++model=convnet']
    """
    key, value = change.removeprefix("++").split("=", 1)
    is_choice = key in (*OPTIONS, "augment") and isinstance(written.get(key), dict) and not value.startswith("{")
    return [change, f"++{key}={{name:{value}}}"] if is_choice else [change]


def _changed(text: str, changes: list[str]) -> str:
    """A text of YAML as DVC changes it."""
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "params.yaml"
        copy.write_text(text)
        apply_overrides(str(copy), changes)
        return copy.read_text()


def _is_readable(text: str) -> bool:
    """Whether a text is YAML for every program: libyaml and YAML 1.1 read less than YAML 1.2 allows."""
    try:
        yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return False
    return True


def _without_braces(text: str) -> str:
    """The same YAML with each key and each item on a line of its own."""
    editor = YAML()
    content = editor.load(text)
    nodes = [content]
    for node in nodes:
        if isinstance(node, CommentedMap | CommentedSeq):
            node.fa.set_block_style()
            nodes += node.values() if isinstance(node, CommentedMap) else node
    changed = io.StringIO()
    editor.dump(content, changed)
    return changed.getvalue()


class _Nulls(RoundTripRepresenter):
    """Writes `null`, where ruamel.yaml by itself leaves the value out."""


_Nulls.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"))


def _with_nulls(text: str) -> str:
    """The same YAML with `null` where DVC has written nothing, so that lines which nobody changed stay as they were."""
    editor = YAML()
    editor.Representer = _Nulls
    content, written = editor.load(text), io.StringIO()
    editor.dump(content, written)
    return written.getvalue()


def assignments(conf: Path, params_file: Path, winner: Mapping[str, Any]) -> list[str]:
    """The arguments of `-S`, one after the other, that make `params_file` compose to `winner`."""
    written = validation.read_yaml(params_file)
    now = composition.values(conf, params_file, [])
    groups = [group for group in (*OPTIONS, "augment") if winner[group]["name"] != now[group]["name"]]
    chosen = [f"{group}={winner[group]['name']}" for group in groups]
    if chosen:
        now = composition.values(conf, params_file, chosen)
    changes = [f"++{choice}" for choice in chosen]
    folds = FOLDS if winner["prepare"]["folds"] is not None else ()
    for section in winner:
        if section in KEPT:
            continue
        is_group = section in OPTIONS or section == "augment"
        if is_group and (section in groups or not isinstance(written.get(section), dict)):
            # A bare name, or nothing: a key alone would become a mapping without a name.
            own = {key: value for key, value in winner[section].items() if value != now[section][key]}
            pairs = "".join(f",{key}:{quote(value)}" for key, value in own.items())
            changes += [f"++{section}={{name:{winner[section]['name']}{pairs}}}"] if own else []
        else:
            differing = _differing(section, winner[section], now[section])
            changes += [f"++{path}={quote(value)}" for path, value in differing if path not in folds]
    return changes


def _differing(path: str, wanted: Any, present: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(wanted, dict) and isinstance(present, dict) and wanted.keys() == present.keys():
        for key in wanted:
            yield from _differing(f"{path}.{key}", wanted[key], present[key])
    elif wanted != present:
        yield path, wanted
