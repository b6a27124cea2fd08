"""The command that adopts a winner: DVC itself applies it to params.yaml, which then composes to what the winner was."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.config import validation
from pipeline.config.composition import compose
from pipeline.errors import ConfigError
from pipeline.sweep import adoption
from tests.conftest import ROOT

CONF = ROOT / "conf"

PLAIN: dict[str, Any] = {"model": {"name": "lenet"}, "optimizer": {"name": "adamw"}, "train": {"max_epochs": 20}}
OWN: dict[str, Any] = {"data": {"name": "folder", "source": "x"}}
FILES: list[dict[str, Any]] = [
    {},
    PLAIN,
    {"model": "lenet", "optimizer": "adamw", "data": "fashion_mnist"},
    {"model": {"name": "convnet", "width": 8}, "augment": {"name": "light", "copies": 2}, "seed": 3},
    {"experiment": "debug", "regularization": {"l1": 1e-6}},
    {"tracking": {"tags": {"team": "vision"}}, "data": {"name": "fashion_mnist", "source": "a/b"}},
]

HARD_TEXTS = st.text(st.sampled_from("ab c,'\"\\{}[]=:?$é#"), min_size=1, max_size=8)
CHOICES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "model=resnet", "model=lenet", "optimizer=sgd", "augment=strong", "augment=none", "data=digits",
                "scheduler=cosine", "experiment=debug", "model.dropout=0.3", "optimizer.lr=1e-4", "optimizer.lr=auto",
                "train.max_epochs=7", "train.early_stopping.patience=null", "train.early_stopping.min_delta=1e-05",
                "augment.copies=3", "augment.transforms=[{HorizontalFlip:{p:0.5}},{Pad:{padding:'size/16'}}]",
                "augment.transforms=[]", "regularization.l2=0.01", "seed=9", "++tracking.tags.note=x",
            ]
        ),
    ),
    max_size=4,
    unique_by=lambda choice: choice.partition("=")[0],
)  # fmt: skip


def write(path: Path, content: dict[str, Any], in_braces: bool | None = False) -> None:
    """Write YAML with a key on each line, in braces, or with braces around the innermost mappings alone (None)."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = in_braces
    writer.dump(content, path)


def adopt(params: Path, winner: dict[str, Any]) -> str | None:
    """Do as a user does who pastes the command: a shell splits it, DVC writes `params.yaml`."""
    command = adoption.command(CONF, params, winner)
    if command is not None:
        words = shlex.split(command)
        assert words[:3] == ["dvc", "exp", "run"] and set(words[3::2]) == {"-S"}
        apply_overrides(str(params), words[4::2])
    return command


def chosen(params: Path, overrides: list[str]) -> dict[str, Any]:
    return compose(CONF, params, overrides).model_dump()


def decisive(config: dict[str, Any]) -> dict[str, Any]:
    return {section: value for section, value in config.items() if section not in adoption.KEPT}


@pytest.mark.long
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(FILES), overrides=CHOICES, source=st.none() | HARD_TEXTS,
    in_braces=st.sampled_from([False, None, True]), with_cure=st.booleans(),
)  # fmt: skip
@example(file=OWN, overrides=[], source=":b", in_braces=None, with_cure=False)
@example(file=OWN, overrides=["model=resnet"], source="?b", in_braces=True, with_cure=True)
@example(file=FILES[3], overrides=["model=resnet"], source=None, in_braces=False, with_cure=True)
def test_params_yaml_composes_to_the_winner_once_it_is_adopted(
    tmp_path: Path, file: dict[str, Any], overrides: list[str], source: str | None, in_braces: bool | None, with_cure: bool
) -> None:  # fmt: skip
    params = tmp_path / "params.yaml"
    write(params, file, in_braces)
    winner = chosen(params, overrides)
    if source is not None and winner["data"]["name"] != "digits":
        winner["data"]["source"] = source
    try:
        written = adoption.applied(CONF, params, winner) if with_cure else adopt(params, winner)
    except ConfigError as error:
        assert in_braces is not False and source is not None and source[0] in ":?" and not with_cure
        assert str(error).startswith(f"{params} must have each key on a line of its own; between braces, DVC writes")
        return
    if with_cure:
        params.write_text(str(written))
    validation.check_yaml(params)
    assert decisive(chosen(params, [])) == decisive(winner)
    assert adoption.command(CONF, params, winner) is None, "adopted already"


@pytest.mark.parametrize(
    ("file", "overrides", "command"),
    [
        (PLAIN, ["model.dropout=0.3"], "dvc exp run -S ++model.dropout=0.3"),
        (PLAIN, ["model=resnet"], "dvc exp run -S ++model=resnet"),
        (PLAIN, ["model=resnet", "model.width=8"], "dvc exp run -S ++model=resnet -S '++model={name:resnet,width:8}'"),
        ({"model": "lenet"}, ["model.dropout=0.3"], "dvc exp run -S '++model={name:lenet,dropout:0.3}'"),
        ({}, ["train.max_epochs=7", "seed=5"], "dvc exp run -S ++train.max_epochs=7"),
        (PLAIN, ["seed=5"], None),
        (PLAIN, ["+tracking.tags.note=x"], None),
    ],
)
def test_the_command_says_what_changes_and_no_more(
    tmp_path: Path, file: dict[str, Any], overrides: list[str], command: str | None
) -> None:
    params = tmp_path / "params.yaml"
    write(params, file)
    assert adoption.command(CONF, params, chosen(params, overrides)) == command


def test_a_winner_is_adopted_by_a_params_yaml_that_has_changed_since(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    write(params, PLAIN)
    winner = chosen(params, ["model.dropout=0.3"])
    write(params, {**PLAIN, "model": {"name": "convnet", "width": 64}, "regularization": {"l1": 0.1}})
    adopt(params, winner)
    assert decisive(chosen(params, [])) == decisive(winner)


def test_a_winner_with_the_users_own_images_is_adopted(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", PLAIN)
    winner = chosen(tmp_path / "params.yaml", ["data=folder", "data.source=~/Fotos/müller", "model=resnet"])
    assert adopt(tmp_path / "params.yaml", winner) is not None
    assert decisive(chosen(tmp_path / "params.yaml", [])) == decisive(winner)


def test_a_fold_is_not_adopted(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", PLAIN)
    folds = ["prepare.folds=5", "prepare.fold=2", "prepare.test_fraction=0", "train.max_epochs=9"]
    command = adoption.command(CONF, tmp_path / "params.yaml", chosen(tmp_path / "params.yaml", folds))
    assert command == "dvc exp run -S ++train.max_epochs=9"


def test_a_variable_of_params_yaml_is_still_one_once_a_winner_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOS_TOKEN", "s3cret")
    file = tmp_path / "params.yaml"
    file.write_text("data:\n  name: folder\n  source: https://h/x.zip?token=${oc.env:PHOTOS_TOKEN}  # mine\nseed: 1\n")
    winner = compose(CONF, file, ["model.dropout=0.4"]).model_dump()
    written = adoption.applied(CONF, file, winner)
    assert "source: https://h/x.zip?token=${oc.env:PHOTOS_TOKEN}  # mine\n" in written and "0.4" in written


def test_lines_that_nobody_changed_stay_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text((CONF.parent / "params.yaml").read_text())
    winner = compose(CONF, file, ["train.batch_size=16"]).model_dump()
    old, new = file.read_text().splitlines(), adoption.applied(CONF, file, winner).splitlines()
    changed = {line.split(":")[0].strip() for line in set(old) ^ set(new)}
    assert changed == {"batch_size"} and "null" in "".join(new)


def test_what_stands_in_braces_is_put_on_lines_where_it_could_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("data: {name: folder, source: x}  # mine\nmodel: {name: lenet}\n")
    winner = compose(CONF, file, ["data.source='?b'", "seed=3"]).model_dump()
    assert adoption.applied(CONF, file, winner) == (
        "data:                            # mine\n  name: folder\n  source: ?b\nmodel:\n  name: lenet\n"
    )
