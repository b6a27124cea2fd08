"""The guides keep their word: what they name exists, their commands compose, their tables match the configuration."""

import re
import shlex
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from pipeline.config import validation
from pipeline.config.composition import compose
from pipeline.data.problems import PROBLEMS
from tests.conftest import ROOT

DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = {
    *("CSVLogger", "CrossEntropyLoss", "DVCFileSystem", "cKDTree"),  # classes of Keras, torch, DVC and SciPy
    *("--nnodes", "RAY_ADDRESS", "hydra/launcher=joblib"),  # of torchrun, Ray and Hydra's plugins
}
"""Names in backticks that belong to other projects."""


def flat(values: dict[str, Any], prefix: str = "") -> set[str]:
    keys = {f"{prefix}{key}" for key in values}
    return keys.union(*(flat(value, f"{prefix}{key}.") for key, value in values.items() if isinstance(value, dict)))


@cache
def known_keys() -> set[str]:
    """Every key of the configuration, those of each option included."""
    choices = [f"model={path.stem}" for path in (ROOT / "conf" / "model").glob("*.yaml") if path.stem != "timm"]
    choices += [f"optimizer={path.stem}" for path in (ROOT / "conf" / "optimizer").glob("*.yaml")]
    composed = [compose(ROOT / "conf", ROOT / "params.yaml", [choice]) for choice in choices]
    composed.append(compose(ROOT / "conf", ROOT / "params.yaml", ["data=folder", "data.source=photos"]))
    return set().union(*(flat(yaml.safe_load(validation.as_yaml(config))) for config in composed))


@cache
def sources() -> str:
    """The text of everything that is executed or read as configuration, without tests and guides."""
    folders = ("pipeline", "conf", "benchmarks", "scripts")
    paths = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".sh")
    ]
    paths += [ROOT / name for name in ("Makefile", "compose.yaml", "dvc.yaml", "params.yaml", "pyproject.toml")]
    paths += (ROOT / ".github" / "workflows").glob("*.yml")
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def spans(text: str) -> list[str]:
    """The text between single backticks, outside of fenced blocks."""
    prose = re.sub(r"```.*?```|``.*?``", "", text, flags=re.DOTALL)
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose)]


def missing(text: str) -> list[str]:
    """The words in backticks that name a file, symbol, key, option or command which the repository does not have."""
    words = [word for span in spans(text) for word in span.split() if not re.search(r"[…<{$*]", word)]
    return [word for word in words if word not in OTHERS and not exists(word)]


def exists(word: str) -> bool:
    """Whether the repository has what `word` names; true where it names nothing that could be looked up."""
    key, _, value = word.partition("=")
    sections = {name.partition(".")[0] for name in known_keys()}
    if word.startswith("pipeline."):
        return has_symbol(word)
    if re.match(r"(pipeline|conf|docs|tests|benchmarks|scripts)/", word):
        return (ROOT / word).exists()
    if word.endswith(".py"):
        return any(path.as_posix().endswith(f"/{word}") for path in ROOT.glob("[!.]*/**/*.py"))
    if (ROOT / "conf" / key).is_dir() and value:
        return all((ROOT / "conf" / key / f"{name}.yaml").exists() for name in value.split("|"))
    if re.fullmatch(r"[\w-]+(/[\w-]+)*\.(json|csv|png|html|yaml|toml|lock|dvc|md|txt|parquet|db)", word):
        return (ROOT / word).exists() or Path(word).name in sources()
    if re.fullmatch(r"[a-z_]+(\.\w+)+", key) and key.partition(".")[0] in sections:
        return key in known_keys()
    if re.fullmatch(r"\.[a-z_]{5,}", key):  # a shorter one is a file's suffix
        return any(name.endswith(key) for name in known_keys())
    if re.fullmatch(r"--[a-z-]+|[A-Z]\w*[a-z]\w*|[A-Za-z]+(_\w+)+", word):
        return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", sources()) is not None
    return True


def has_symbol(dotted: str) -> bool:
    """Whether a dotted name is a module, or a name that is defined at the top of one."""
    path = ROOT / dotted.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, name = dotted.rpartition(".")
    folder = ROOT / module.replace(".", "/")
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return (
        re.search(rf"^((class|def) {name}\b|{name}\b.* =|from .* import .*\b{name}\b)", text, re.MULTILINE) is not None
    )


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_name_in_backticks_exists(guide: Path) -> None:
    assert missing(guide.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "gone",
    [
        "pipeline/data/audit.py", "training/batch.py", "pipeline.data.audit", "pipeline.watch.Watches", "Joined",
        "hash_pixels", "train.max_epoch", "train.max_epoch=3", ".min_deltas", "augment=medium", "--resumed",
        "build/prepare/problems.csv", "problem.json", "MLFLOW_TRACKING_URL",
    ],
)  # fmt: skip
def test_a_name_that_does_not_exist_is_found(gone: str) -> None:
    assert missing(f"The file `{gone}` and `pipeline/train.py`.") == [gone]


def test_a_command_whose_module_does_not_exist_is_found() -> None:
    assert missing("`python -m pipeline.validate --help`") == ["pipeline.validate"]


def documented_commands() -> list[list[str]]:
    """The commands in fenced blocks of all guides, without comments and output."""
    text = "\n".join(guide.read_text(encoding="utf-8") for guide in GUIDES)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if language in ("", "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(python|dvc|make) ", line)]


@pytest.mark.long
def test_every_command_of_the_pipeline_composes() -> None:
    """Each key exists and each value is allowed; of a sweep, the first value."""
    composed = 0
    for _, _, module, *arguments in (words for words in documented_commands() if words[:2] == ["python", "-m"]):
        assert has_symbol(module), module
        overrides = [word for word in arguments if re.match(r"[a-z]+[\w.]*=", word) and not word.startswith("hydra")]
        for override in overrides:
            key = override.partition("=")[0]
            assert key in known_keys() or (ROOT / "conf" / key).is_dir(), override
        values = [word if "[" in word else word.partition(",")[0] for word in overrides if not re.search(r"[…(]", word)]
        compose(ROOT / "conf", ROOT / "params.yaml", values)
        composed += bool(values)
    assert composed > 10


def test_every_experiment_sets_keys_that_params_yaml_lists() -> None:
    """`dvc exp run -S key=value` is refused where the file lacks the key; `++key=value` sets any key."""
    listed = flat(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    chosen = [after for words in documented_commands() for word, after in pairwise(words) if word == "-S"]
    assert len(chosen) > 4
    for key in (override.partition("=")[0] for override in chosen):
        assert key.removeprefix("++") in known_keys()
        assert key.startswith("++") or key in listed, f"`-S {key}=…` needs ++, as params.yaml does not list the key"


def test_every_experiment_can_be_run_twice(tmp_path: Path) -> None:
    for words in documented_commands():
        overrides = [after for word, after in pairwise(words) if word == "-S"]
        params = Path(shutil.copy2(ROOT / "params.yaml", tmp_path))
        once, twice = (typed(params, overrides) for _ in range(2))
        assert once == twice
        if overrides and "data.source=photos" not in overrides:
            compose(ROOT / "conf", params, [])


def typed(params: Path, overrides: list[str]) -> str:
    """The file after `dvc exp run -S …`."""
    apply_overrides(str(params), overrides)
    return params.read_text(encoding="utf-8")


def test_every_key_in_the_guide_to_data_exists() -> None:
    sections = "|".join({key.partition(".")[0] for key in known_keys()})
    named = set(re.findall(rf"`((?:{sections})(?:\.\w+)+)(?:=[^`]*)?`", DATA)) - {"data.dvc"}
    assert len(named) > 15 and named <= known_keys(), f"docs/data.md names {sorted(named - known_keys())}"


def test_the_table_of_problems_has_each_with_its_default() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["data=folder", "data.source=photos"])
    told = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", DATA, flags=re.MULTILINE))
    assert told == vars(config.prepare.on_issue) and list(told) == list(PROBLEMS)


def test_every_link_of_the_guides_leads_to_a_file() -> None:
    for guide in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", guide.read_text(encoding="utf-8")):
            assert (guide.parent / target).exists(), f"{guide}: {target}"
