"""What docs/data.md says of keys and problems is what the configuration has."""

import re

import yaml

from pipeline.config import validation
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.data.checks import PROBLEMS
from tests.conftest import ROOT
from tests.test_readme import flat

DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_key_in_the_guide_to_data_exists() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["data=folder", "data.source=photos"])
    sections = "|".join(Config.model_fields)
    named = set(re.findall(rf"`((?:{sections})(?:\.\w+)+)(?:=[^`]*)?`", DATA)) - {"data.dvc"}
    known = flat(yaml.safe_load(validation.as_yaml(config)))
    assert len(named) > 15 and named <= known, f"docs/data.md names {sorted(named - known)}"


def test_the_table_of_problems_has_each_with_its_default() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["data=folder", "data.source=photos"])
    told = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", DATA, flags=re.MULTILINE))
    assert told == config.prepare.on_issue.model_dump() and list(told) == list(PROBLEMS)


def test_every_link_of_the_guides_leads_to_a_file() -> None:
    for guide in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", guide.read_text(encoding="utf-8")):
            assert (guide.parent / target).exists(), f"{guide}: {target}"
