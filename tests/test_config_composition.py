import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.config import validation
from pipeline.config.composition import LISTED, compose, hydra_overrides, option_names
from pipeline.config.grammar import experiment, words
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"


def write_params(folder: Path, content: Any) -> Path:
    path, writer = folder / "params.yaml", YAML(typ="safe", pure=True)
    writer.default_flow_style = False  # in the other style, {a: :b} is written that no reader takes
    with path.open("w") as file:
        writer.dump(content, file)
    return path


HARD_TEXTS = st.one_of(
    st.text(alphabet=st.sampled_from(list("ab'\"\\ ,:{}[]()$=!%#&*?~@^`|<>\tñ中")), max_size=12),
    st.sampled_from(
        ["null", "true", "1e-4", "${seed}", "\\${seed}", "a\\", "\\'", "'", "", " ", "a,b", "[1]", "choice(a)"]
    ),
)


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(
    tags=st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True), HARD_TEXTS, max_size=6),
    mirrors=st.lists(HARD_TEXTS, max_size=6),
    source=st.one_of(st.none(), HARD_TEXTS),
    l2=st.floats(0, 1e6, allow_subnormal=False),
    limit=st.one_of(st.none(), st.integers(1, 10**9)),
)
def test_values_of_params_yaml_arrive_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, tags: Any, mirrors: Any, source: Any, l2: float, limit: int | None
) -> None:
    content = {
        "data": {"name": "fashion_mnist", "source": source, "mirrors": mirrors},
        "regularization": {"l2": l2},
        "prepare": {"limit": limit},
        "tracking": {"tags": tags},
    }
    folder = tmp_path_factory.mktemp("params")
    config = compose(CONF, write_params(folder, content), [])
    (folder / "config.yaml").write_text(validation.as_yaml(config))
    assert validation.load(folder / "config.yaml") == config
    assert (config.data.source, config.data.mirrors) == (source, mirrors)
    assert (config.regularization.l2, config.prepare.limit, config.tracking.tags) == (l2, limit, tags)


def test_params_yaml_wins_over_conf_and_the_command_line_over_both(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"train": {"max_epochs": 7, "batch_size": 8}})
    config = compose(CONF, params, ["train.max_epochs=9"])
    assert (config.train.max_epochs, config.train.batch_size, config.train.monitor) == (9, 8, "val/loss")


def test_a_group_chosen_on_the_command_line_drops_its_keys_of_params_yaml(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"model": {"name": "convnet", "width": 8}, "seed": 3})
    assert compose(CONF, params, []).model.width == 8
    assert compose(CONF, params, ["model=lenet"]).model.name == "lenet"
    assert compose(CONF, params, ["model=convnet"]).model.width == 32
    assert compose(CONF, params, ["model=lenet"]).seed == 3


def test_an_experiment_chosen_on_the_command_line_wins_over_params_yaml(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"data": {"name": "fashion_mnist"}, "train": {"max_epochs": 50, "batch_size": 8}})
    config = compose(CONF, params, ["experiment=debug"])
    assert (config.data.name, config.train.max_epochs, config.train.batch_size) == ("digits", 2, 8)


def test_an_experiment_in_params_yaml_yields_to_what_is_changed_there(tmp_path: Path) -> None:
    experiment: dict[str, Any] = {"experiment": "underfit_small", "train": {"max_epochs": 20, "batch_size": 256}}
    config = compose(CONF, write_params(tmp_path, experiment), [])
    assert (config.train.max_epochs, config.train.batch_size, config.prepare.limit) == (20, 100, 2000)
    experiment["train"]["batch_size"] = 8
    assert compose(CONF, write_params(tmp_path, experiment | {"prepare": {"limit": 9}}), []).prepare.limit == 9
    assert compose(CONF, write_params(tmp_path, experiment), []).train.batch_size == 8


def test_dvc_edits_the_source_of_the_images_in_params_yaml(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    for name in ("folder", "fashion_mnist"):
        params.write_text((ROOT / "params.yaml").read_text())
        apply_overrides(str(params), ["data.source=photos", f"data.name={name}"])
        config = compose(CONF, params, [])
        assert (config.data.name, config.data.source) == (name, "photos")
    assert compose(CONF, params, ["data=digits"]).data.source is None


def test_params_yaml_lists_defaults_that_no_option_decides() -> None:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    listed = dict(_leaves_of(content))
    assert set(LISTED) < set(listed) and len(listed) >= 12
    groups = option_names(CONF)
    assert {key for key in listed if key.split(".")[0] in groups} == {"experiment", "data.source"} | {
        f"{group}.name" for group in ("data", "augment", "model", "optimizer", "scheduler")
    }
    defaults = dict(_leaves_of(YAML(typ="safe").load((CONF / "config.yaml").read_text())))
    assert {key: listed[key] for key in LISTED} == {key: defaults[key] for key in LISTED}


@pytest.mark.parametrize("experiment", option_names(CONF)["experiment"])
def test_an_experiment_composes_to_the_same_with_and_without_the_keys_that_params_yaml_lists(
    experiment: str, tmp_path: Path
) -> None:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    short = {key: value for key, value in content.items() if key not in ("prepare", "evaluate")}
    short["train"], short["regularization"] = {"max_epochs": 20}, {"l1": 0.0, "l2": 0.0}
    shorter = compose(CONF, write_params(tmp_path, short), [f"experiment={experiment}"])
    assert compose(CONF, ROOT / "params.yaml", [f"experiment={experiment}"]) == shorter
    if shorter.model.name == "convnet":  # its keys do not fit the network of params.yaml
        content, short = content | {"model": "convnet"}, short | {"model": "convnet"}
    expected = compose(CONF, write_params(tmp_path, short | {"experiment": experiment}), [])
    assert compose(CONF, write_params(tmp_path, content | {"experiment": experiment}), []) == expected


def _leaves_of(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_a_bare_string_chooses_an_option(tmp_path: Path) -> None:
    assert compose(CONF, write_params(tmp_path, {"model": "convnet"}), []).model.name == "convnet"


def test_a_group_without_name_is_refused(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"model": {"dropout": 0.3}})
    with pytest.raises(
        ConfigError, match=r"model in params.yaml must have a name, one of convnet, efficientnet, .*; got .*Write"
    ):
        compose(CONF, params, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=2", r"model\.widht is not a configuration key; got model\.widht=2\..* The keys of model are"),
        ("+model.droput=2", r"model\.droput is not a configuration key.*Did you mean 'dropout'\?"),
        ("++model.droput=2", r"model\.droput is not a configuration key.*Did you mean 'dropout'\?"),
        ("mdoel=convnet", r"mdoel is not a configuration key.*Did you mean 'model'\?"),
        (
            "model=lenett",
            r"model must be one of convnet, efficientnet, lenet, resnet, timm; got 'lenett'\. Did you mean 'lenet'\?",
        ),
        (
            "optimizer.lr=-1",
            r"optimizer\.lr must be a number > 0 or auto; got -1\. Change it in params\.yaml or on the command",
        ),
        ("optimizer.lr=nan", r"optimizer\.lr must be a number > 0 or auto; got nan"),
        ("train.max_epochs=1.5", r"train\.max_epochs must be a whole number >= 1; got 1\.5"),
        ("train.max_epochs=true", r"train\.max_epochs must be a whole number >= 1; got True"),
        ("train.monitor=val/los", r"train\.monitor must be one of .*; got 'val/los'\. Did you mean 'val/loss'\?"),
        ("prepare.limit=0", r"prepare\.limit must be a whole number >= 1 or null; got 0"),
        ("prepare.fit=padd", r"prepare\.fit must be one of pad, crop, stretch; got 'padd'\. Did you mean 'pad'\?"),
        ("model.dropout=1", r"model\.dropout must be a number in \[0, 1\); got 1"),
        ("tracking.tags=3", r"tracking\.tags must be a mapping of texts to texts; got 3"),
        ("optimizer.lr=fast", r"optimizer\.lr must be a number > 0 or auto; got 'fast'"),
        ("augment.strength=-0.1", r"augment\.strength must be a number in \[0, 10\]; got -0\.1"),
        (
            "augment.veto={HorizontalFlip: cat}",
            r"augment\.veto must be a mapping of texts to lists; got {'HorizontalFlip'",
        ),
        (
            "train.class_weights=balance",
            r"train\.class_weights must be one of none, balanced; got 'balance'\. Did you mean",
        ),
        (
            "train.sampling=balancd",
            r"train\.sampling must be one of shuffled, balanced; got 'balancd'\. Did you mean 'bal",
        ),
        (
            "augment.mode=onlin",
            r"augment\.mode must be one of auto, materialized, online; got 'onlin'\. Did you mean 'onl",
        ),
        ("augment.max_gigabytes=0", r"augment\.max_gigabytes must be a number > 0; got 0"),
        ("train=3", r"train must be a mapping of max_epochs, .*; got 3"),
        ("data=folder", r"data\.source must be the path or the address of your images; got None\."),
        (
            "data=digits; data.source=photos",
            r"data\.source must be null with data=digits, which .*; data=folder reads yours; got 'photos'\.",
        ),
        ("data.source=???", r"data\.source is missing\. Set it in conf/, in params\.yaml or as data\.source=… on"),
        (
            "train.early_stopping.patience=0",
            r"train\.early_stopping\.patience must be a whole number >= 1 or null; got 0",
        ),
        ("train.channels_last=1", r"train\.channels_last must be true or false; got 1\."),
        ("optimizer.lr=true", r"optimizer\.lr must be a number > 0 or auto; got True"),
        ("learning_curve.fractions=[a]", r"learning_curve\.fractions must be a list of numbers; got \['a'\]"),
        ("ablate.arms={x: 1}", r"ablate\.arms must be a mapping of texts to lists of texts; got {.*'x': 1}"),
        ("diagnose.reference=1", r"diagnose\.reference must be a number in \(0, 1\) or null; got 1\."),
        ("seed='3'", r"seed must be a whole number >= 0; got '3'"),
        (
            "data=folder; data.source=x; +data.columns.paht=file",
            r"data\.columns must be a mapping of path, label, split, group, image;",
        ),
        (
            "data=folder; data.source=x; data.layout=tree",
            r"data\.layout must be one of folders, splits, .* or null; got 'tree'",
        ),
        ("prepare.fold=1", r"prepare\.fold must be null without prepare\.folds; got 1"),
        (
            "prepare.folds=3; prepare.fold=3",
            r"prepare\.fold must be a whole number in 0\.\.2, as prepare\.folds=3; got 3",
        ),
        ("prepare.on_issue.unreadable=keep", r"prepare\.on_issue\.unreadable must be one of drop, fail; got 'keep'"),
        ("prepare.on_issue.imbalance=drop", r"prepare\.on_issue\.imbalance must be one of keep, fail; got 'drop'"),
        ("prepare.channels=true", r"prepare\.channels must be 1 or 3 or null; got True"),
        ("prepare.channels=2", r"prepare\.channels must be 1 or 3 or null; got 2"),
        ("prepare.confirm_fraction=0.9", r"val_fraction \+ prepare\.confirm_fraction must be a number < 1; got 1"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_in_one_sentence(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(CONF, write_params(tmp_path, {}), override.split("; "))


def test_classes_are_balanced_once(tmp_path: Path) -> None:
    both = ["train.sampling=balanced", "train.class_weights=balanced"]
    with pytest.raises(
        ConfigError, match=r"class_weights must be none with train\.sampling=balanced.*; got 'balanced'\. Set"
    ):
        compose(CONF, write_params(tmp_path, {}), both)
    for one in both:
        compose(CONF, write_params(tmp_path, {}), [one])


def test_a_key_that_hydra_cannot_express_is_refused(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"tracking": {"tags": {"a b": "c"}}})
    with pytest.raises(ConfigError, match=r"a key must be a word of letters.*; got 'a b'\. Rename it"):
        compose(CONF, params, [])


def test_params_yaml_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("model: [")
    with pytest.raises(ConfigError, match=r"params\.yaml, line 2, must be YAML; "):
        compose(CONF, path, [])
    path.write_text("- a list")
    with pytest.raises(ConfigError, match=r"params\.yaml must hold a mapping of keys to values; got \['a list'\]"):
        compose(CONF, path, [])
    with pytest.raises(ConfigError, match=r"other\.yaml does not exist; `git checkout` brings it back\.$"):
        compose(CONF, tmp_path / "other.yaml", [])


def test_every_option_composes(tmp_path: Path) -> None:
    """Options of different groups together; experiments are composed above."""
    params, groups = write_params(tmp_path, {}), option_names(CONF)
    files = [path for path in CONF.rglob("*.yaml") if path.parent != CONF]
    assert sum(len(names) for names in groups.values()) == len(files) >= 14
    del groups["experiment"]
    for place in range(max(len(names) for names in groups.values())):
        choices = [f"{group}={names[min(place, len(names) - 1)]}" for group, names in groups.items()]
        compose(CONF, params, [*choices, *(["data.source=images"] if "data=folder" in choices else [])])


def test_sweep_values_of_plain_keys_stay_sweeps(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"model": {"name": "lenet", "dropout": 0.1}})
    overrides = hydra_overrides(CONF, params, ["model.dropout=0,0.3", "model=lenet,convnet", "hydra.verbose=true"])
    assert overrides == ["++model.dropout=0,0.3", "model=lenet,convnet", "hydra.verbose=true"]


def test_a_veto_is_free_to_name_transforms_from_params_yaml_and_the_command_line(tmp_path: Path) -> None:
    params = write_params(tmp_path, {"augment": {"name": "light", "veto": {"HorizontalFlip": ["6", "ankle boot"]}}})
    assert compose(CONF, params, []).augment.veto == {"HorizontalFlip": ["6", "ankle boot"]}
    assert compose(CONF, params, ["augment=standard"]).augment.veto == {}
    assert compose(CONF, params, ["augment.veto={Affine: [6, 9]}"]).augment.veto["Affine"] == [6, 9]


@pytest.mark.parametrize(
    "source",
    ["/home/müller/photos", "~/photos", "a#b", "a=b,c", "李明", 'quo"te', "it's", "with space", "100%", "a:b", "x (1)"],
)
def test_paths_arrive_as_they_are_typed(tmp_path: Path, source: str) -> None:
    config = compose(CONF, write_params(tmp_path, {}), ["data=folder", f"data.source={source}"])
    assert config.data.source == source


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.source=${oc.env:GOODFIT_NOT_SET}", r"^GOODFIT_NOT_SET must be set in the environment, as data"),
        ("data.source='a", r"^data\.source='a must be in Hydra's grammar: .* stands in quotes: "),
        ("model.width=[1,2", r"^model\.width=\[1,2 must be in Hydra's grammar: "),
    ],
)  # fmt: skip
def test_what_hydra_cannot_read_is_told_in_one_sentence(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        compose(CONF, write_params(tmp_path, {}), [override])
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("convnet", "model=resnet"),
        ("convnet", "model=resnet model.width=8 prepare.size=48"),
        ({"name": "convnet", "dropout": 0.3}, "model=resnet"),
        ({"name": "convnet", "dropout": 0.3}, "model=resnet model.width=8 prepare.size=48"),
        ({"name": "convnet", "dropout": 0.3}, "model.width=8"),
    ],
)
def test_the_command_that_tries_a_change_gives_what_was_tried(tmp_path: Path, model: Any, change: str) -> None:
    params = write_params(tmp_path, {"seed": 3, "model": model})
    tried = compose(CONF, params, words(change))
    apply_overrides(str(params), shlex.split(experiment(change))[4::2])
    assert compose(CONF, params, []) == tried
