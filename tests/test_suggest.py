"""Tests the command that looks at images and proposes the params.yaml to begin with."""

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline import prepare, suggest
from pipeline.augmentation.veto import augmentation
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.stage.job import Job
from pipeline.storage import git
from pipeline.suggestion import params_file, rules
from pipeline.suggestion.survey import RUN, SAMPLE, Survey, sampled, survey
from tests.conftest import ROOT
from tests.own_source import folder as section

CONF, PARAMS = ROOT / "conf", ROOT / "params.yaml"

COUNTS = {"cats": 200, "dogs": 150}


def seen(**changed: Any) -> Survey:
    """A survey of 350 colour photographs, with some of it changed."""
    plain = Survey(
        title="image folder with 2 classes, 350 images, no test split", counts=COUNTS, splits=frozenset(), has_groups=False,
        num_seen=350, sides=(200, 400, 4000), aspect=1.5, is_grey=False, looks_grey=False, num_alike=0, num_bad=0,
    )  # fmt: skip
    return Survey(**{**plain.__dict__, **changed})


def proposal(found: Survey, **options: Any) -> dict[str, Any]:
    """The proposed keys and values."""
    return {line.key: line.value for line in rules.suggest(found, "photos", options)}


def pictures(folder: Path, counts: dict[str, int], side: int = 100, channels: int = 3, kind: str = "png") -> Path:
    """Noise in so many different images of each class."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            small = generator.integers(0, 256, (8, 8, channels), np.uint8)
            image = cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / name / f"{number:04d}.{kind}"), image)
    return folder


def text_for(source: object, tmp_path: Path, present: str = "") -> str:
    params = tmp_path / "params.yaml"
    params.write_text(present)
    return suggest.proposed(section(source), CONF, params, tmp_path)


def composed(text: str, tmp_path: Path) -> Config:
    path = tmp_path / "proposed.yaml"
    path.write_text(text)
    return compose(CONF, path, [])


def test_few_colour_photographs_begin_with_what_others_have_learned(tmp_path: Path) -> None:
    source = pictures(tmp_path / "photos", {"cats": 20, "dogs": 20}, side=160, kind="jpg")
    text = text_for(source, tmp_path)
    config = composed(text, tmp_path)
    assert (config.model.name, config.model.weights, config.prepare.size) == ("efficientnet", "imagenet", 128)
    assert config.data.source == str(source)
    assert (
        f"# python -m pipeline.suggest {source}\n# 40 images of 2 classes, 20 each; colour. 40 were looked at.\n"
        in text
    )


def test_every_line_that_differs_from_the_default_has_a_reason(tmp_path: Path) -> None:
    for found in (
        seen(),
        seen(counts={"0": 9000, "1": 900}, is_grey=True, looks_grey=True, sides=(28, 28, 28), aspect=1.0),
    ):
        lines = {line.key: line for line in rules.suggest(found, "photos", {})}
        usual = YAML(typ="safe").load(PARAMS.read_text())
        for key, line in lines.items():
            default: Any = usual
            for part in key.split("."):
                default = default.get(part) if isinstance(default, dict) else None
            assert line.reason or line.value == default or key in ("data.name",), key


def test_small_grey_images_get_a_small_network_at_their_size() -> None:
    grey = {"is_grey": True, "looks_grey": True, "sides": (28, 28, 28), "aspect": 1.0}
    few, many = proposal(seen(**grey)), proposal(seen(**grey, counts={"a1": 6000, "b1": 6000}))
    assert few["model.name"] == "convnet" and many["model.name"] == "resnet"
    assert few["prepare.size"] == many["prepare.size"] == 28
    assert "model.weights" not in few and "prepare.fit" not in few


def test_all_layers_learn_where_a_class_has_images_enough() -> None:
    few, more = (proposal(seen(counts={"a1": count, "b1": count})) for count in (49, 50))
    assert (few["model.train_layers"], few["train.max_epochs"], "optimizer.lr" in few) == ("head", 40, False)
    assert (more["model.train_layers"], more["train.max_epochs"], more["optimizer.lr"]) == ("gradual", 16, 5e-4)


def test_small_images_are_enlarged_for_the_large_network() -> None:
    assert proposal(seen(sides=(48, 48, 48), aspect=1.0))["prepare.fit"] == "stretch"
    assert proposal(seen(sides=(30, 60, 90), aspect=1.6))["prepare.fit"] == "crop"
    assert "prepare.fit" not in proposal(seen())


def test_grey_content_in_colour_files_is_read_as_grey() -> None:
    assert proposal(seen(looks_grey=True))["prepare.channels"] == 1
    assert "prepare.channels" not in proposal(seen(is_grey=True, looks_grey=True))
    assert "prepare.channels" not in proposal(seen())


def test_unequal_classes_weigh_the_same() -> None:
    assert proposal(seen(counts={"a1": 300, "b1": 100}))["train.class_weights"] == "balanced"
    assert "train.class_weights" not in proposal(seen(counts={"a1": 299, "b1": 100}))


def test_very_few_images_are_folded_unless_the_source_has_a_validation_split() -> None:
    few = {"a1": 60, "b1": 60}
    assert (proposal(seen(counts=few))["prepare.folds"], proposal(seen(counts=few))["prepare.fold"]) == (10, 0)
    rare = {"a1": 60, "b1": 6}
    for other in (seen(), seen(counts=few, splits=frozenset({"train", "val"})), seen(counts=rare)):
        assert "prepare.folds" not in proposal(other)


@pytest.mark.parametrize(
    ("names", "vetoed"),
    [
        (["6", "9"], ["6", "9"]), (["a", "B", "other"], ["a", "B"]), (["cat", "dog"], None),
        (["hand left", "hand_right", "up"], ["hand left", "hand_right"]), (["leftovers", "bright"], None),
    ],
)  # fmt: skip
def test_classes_that_a_mirror_image_would_confuse_get_none(
    tmp_path: Path, names: list[str], vetoed: list[str] | None
) -> None:
    found = seen(counts=dict.fromkeys(names, 100))
    veto = proposal(found).get("augment.veto", {})
    assert veto == ({} if vetoed is None else {"HorizontalFlip": vetoed})
    if names == ["6", "9"]:
        config = composed(params_file.text([], rules.suggest(found, "photos", {}), ""), tmp_path)
        made = augmentation(config.augment.transforms, config.augment.veto, 32, 3, names)
        assert set(made.reduced) == {0, 1}, "augment knows the classes by these names"


SURVEYS = st.builds(
    Survey,
    title=st.text(max_size=20),
    counts=st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 200_000), min_size=2, max_size=30),
    splits=st.sets(st.sampled_from(["train", "val", "test"])).map(frozenset),
    has_groups=st.booleans(),
    num_seen=st.integers(1, SAMPLE),
    sides=st.lists(st.integers(1, 20_000), min_size=3, max_size=3).map(lambda sides: tuple(sorted(sides))),
    aspect=st.floats(1, 50),
    is_grey=st.booleans(),
    looks_grey=st.booleans(),
    num_alike=st.integers(0, SAMPLE),
    num_bad=st.integers(0, SAMPLE),
)


SOURCES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda source: "${" not in source)


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(SURVEYS, SOURCES)
def test_whatever_is_proposed_composes(tmp_path_factory: pytest.TempPathFactory, found: Survey, source: str) -> None:
    tmp_path = tmp_path_factory.mktemp("made")
    text = params_file.text(["images"], rules.suggest(found, source, {}), "tracking:\n  experiment: mine # yes\n")
    config = composed(text, tmp_path)
    assert config.data.source == source and config.tracking.experiment == "mine"
    assert config.prepare.size in (28, 32, 48, 128)
    for line in text.splitlines():
        assert line.startswith(("#", " ")) or ":" in line


def test_copies_and_frames_of_one_film_are_found(tmp_path: Path) -> None:
    source = pictures(tmp_path / "photos", {"cats": 20, "dogs": 20})
    for number in range(4):
        shutil.copy(source / "cats" / "0000.png", source / "cats" / f"copy{number}.png")
    assert survey(section(source), tmp_path).num_alike == 5
    assert re.search(
        "  near_duplicates: true +# 5 of 44 are alike: these stay in one split\n", text_for(source, tmp_path)
    )
    many = rules.suggest(seen(num_alike=200), "photos", {})
    assert next(line for line in many if line.key == "prepare.near_duplicates").reason == (
        "200 of 350 are alike: these stay in one split; name films or objects with prepare.group"
    )


@pytest.mark.parametrize("layout", ["folder", "zip", "splits", "table", "arrays"])
def test_all_layouts_tell_the_same(tmp_path: Path, layout: str) -> None:
    photos = pictures(tmp_path / "photos", {"cats": 12, "dogs": 15}, side=40, channels=1)
    source, images = photos, sorted(photos.rglob("*.png"))
    if layout == "zip":
        source = tmp_path / "photos.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in images:
                archive.write(path, path.relative_to(photos))
    elif layout == "splits":
        source = tmp_path / "parted"
        for name in ("train", "test"):
            shutil.copytree(photos, source / name)
    elif layout == "table":
        rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in images]
        (photos / "labels.csv").write_text("\n".join(["path,label", *rows]))
    elif layout == "arrays":
        source = tmp_path / "arrays"
        source.mkdir()
        np.save(source / "images.npy", np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in images]))
        np.save(source / "labels.npy", np.array([path.parent.name == "dogs" for path in images]).astype(np.int64))
    found = survey(section(source, classes=["cats", "dogs"] if layout == "arrays" else None), tmp_path)
    assert found.counts == {"cats": 12, "dogs": 15}, "without the images of a test split"
    assert (found.sides, found.is_grey, found.looks_grey) == ((40, 40, 40), True, True)
    assert found.splits == (frozenset({"train", "test"}) if layout == "splits" else frozenset())


def test_grey_pictures_in_colour_files_are_seen(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            grey = np.random.default_rng(number).integers(0, 256, (60, 50, 1), np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), grey.repeat(3, axis=2))
    found = survey(section(tmp_path / "photos"), tmp_path)
    assert (found.is_grey, found.looks_grey, found.sides) == (False, True, (60, 60, 60))


def test_a_sample_is_spread_over_all_images_and_has_neighbours() -> None:
    places = sampled(100_000)
    assert len(places) == len(set(places)) == SAMPLE
    assert min(places) == 0 and max(places) == 99_999
    begins = sorted(places)[::RUN]
    assert max(np.diff(begins)) < 1.1 * min(np.diff(begins))
    assert sorted(places)[:RUN] == list(range(RUN))


def test_images_of_which_none_can_be_read_are_told(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"^data.source must hold images that can be decoded; none of the 2 that were looked"
    ):
        survey(section(tmp_path / "photos"), tmp_path)


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        ("nowhere", [], r"^data.source must be a folder, an archive or a file that is there; got .*nowhere, which is not\.$"),
        (None, [], r"^suggest must be given your images, or params.yaml must name them; it has data=fashion_mnist\. Run"),
        ("photos", ["train.max_epochs=3"], r"^suggest must be given a source, and keys of data alone; got 'train.max"),
        ("https://host/a.zip?token=0123456789abcdef", [], r"secret|password|token"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_told_in_one_sentence(
    tmp_path: Path, source: str | None, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        asked = suggest.asked_for(source, overrides, CONF, PARAMS)
        suggest.proposed(asked, CONF, PARAMS, tmp_path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of git with a params.yaml, in which the command runs."""
    monkeypatch.setattr(suggest, "ROOT", tmp_path)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    with (tmp_path / "params.yaml").open("a") as file:
        file.write(
            "# what follows stays\ntracking:\n  experiment: mine   # and its remark\nregister: {enabled: true}\n"
        )
    for arguments in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=T", "-c", "user.email=t@e", "commit", "-qm", "A"],
    ):
        git.output(tmp_path, *arguments)
    pictures(tmp_path / "photos", {"cats": 12, "dogs": 15})
    return tmp_path


def test_apply_writes_what_was_printed_and_keeps_what_it_does_not_propose(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suggest.main(["photos", "data.licence=mine", "--apply"])
    printed, written = capsys.readouterr().out, (repository / "params.yaml").read_text()
    assert (
        printed == f"{written}written into params.yaml; `dvc repro` runs it, `git checkout params.yaml` takes it back\n"
    )
    config = compose(CONF, repository / "params.yaml", [])
    assert (config.data.source, config.data.licence, config.model.name) == ("photos", "mine", "efficientnet")
    assert config.tracking.experiment == "mine" and config.register.enabled
    assert "  experiment: mine   # and its remark\n" in written


def test_apply_refuses_to_replace_what_git_does_not_have(repository: Path) -> None:
    before = (repository / "params.yaml").read_text() + "# mine\n"
    (repository / "params.yaml").write_text(before)
    with pytest.raises(
        ConfigError,
        match=r"^params.yaml must be as it was committed, so that git keeps what --apply replaces; it is not \(M params.yaml\)",
    ):
        suggest.main(["photos", "--apply"])
    shutil.rmtree(repository / ".git")
    with pytest.raises(ConfigError, match=r"it is not \(not a git repository"):
        suggest.main(["photos", "--apply"])
    assert (repository / "params.yaml").read_text() == before


def test_without_a_source_it_looks_at_what_params_yaml_names(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (repository / "params.yaml").read_text()
    own = re.sub(
        r"^data:\n(  .*\n)*", "data: {name: folder, source: photos, title: Pets}\n", content, flags=re.MULTILINE
    )
    (repository / "params.yaml").write_text(own)
    suggest.main([])
    printed = capsys.readouterr().out
    assert "  title: Pets\n" in printed and "  source: photos" in printed
    assert (repository / "params.yaml").read_text() == own


def test_prepare_tells_who_begins_with_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "train").mkdir()
    example = compose(CONF, PARAMS, [])
    own = compose(CONF, PARAMS, ["data=folder", "data.source='my photos'"])

    def remark(config: Config, side: int) -> str | None:
        sides = pa.table({"width": [side, 10, 200], "height": [10, 10, side]})
        pq.write_table(sides, tmp_path / "train" / "ids.parquet")
        return prepare.about_start(config, tmp_path)

    assert remark(own, 64) == (
        "prepare: these images are large (median 64 pixels), and model=lenet at 32 is the example for small grey ones. "
        "`python -m pipeline.suggest 'my photos'` proposes a better start."
    )
    assert remark(own, 63) is None
    assert remark(example, 64) is None, "its images are those of the example"
    assert remark(own.model_copy(update={"prepare": own.prepare.model_copy(update={"size": 64})}), 64) is None
    resnet = compose(CONF, PARAMS, ["data=folder", "data.source=photos", "model=resnet"])
    assert remark(resnet, 64) is None
    monkeypatch.setattr(prepare, "prepare", lambda *arguments: None)  # which wrote the sides above
    remark(own, 64)
    prepare.main(Job(own, tmp_path, "", tmp_path, lambda stage: tmp_path))
    assert capsys.readouterr().out.endswith("proposes a better start.\n")
