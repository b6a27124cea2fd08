"""The page of an ablation: every arm, every picture, nulls as nulls, and nothing from elsewhere."""

import re
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from pipeline.metrics import paired
from pipeline.metrics.ablation import effects
from pipeline.page import ablation as page
from pipeline.plotting import ablation as figures
from tests.ablation_arms import ARMS, made_up_arm, made_up_doses
from tests.page_artefacts import dataset_record

CHOSEN = {"dropout": "model.dropout=0.5 x.y=1"}


def results(num_seeds: int = 6) -> page.AblationResults:
    baseline, *others = [made_up_arm(name, num_seeds) for name in ARMS]
    counts = {"train": [250, 250], "val": [1200], "test": [10000]}
    return page.AblationResults(
        dataset=dataset_record(name="fashion <b>", counts=counts),
        config={
            "model": {"name": "convnet"}, "train": {"max_epochs": 20, "batch_size": 50},
            "tracking": {"uri": "https://ana:secret@example.org"},
        },
        baseline=baseline,
        effects=effects(baseline, others),
        champion="augmentation",
        tested=paired.difference([0.85, 0.86, 0.87], [0.83, 0.84, 0.84]),
        test_accuracies={"baseline": 0.8367, "augmentation": 0.86},
        doses=[],
        chosen={},
        command="python -m pipeline.ablate experiment=overfit_small",
        num_trained=54,
        verdicts={name: "good_fit" if name == "all" else "still_learning" for name in ("baseline", *ARMS)},
    )  # fmt: skip


def test_the_page_tells_every_arm_and_its_nulls() -> None:
    html = page.render(results())
    for name in ARMS:
        assert name.replace("_", " ") in html
    assert len(re.findall(r"<tr[^>]*><th scope=\"row\">", html)) == 2 * len(ARMS) - 1, (
        "numbers, and overrides of the arms"
    )
    assert "no effect on the gap was found" in html and "shrinks the gap by" in html
    assert "6 seeds are too few" in html and "54 trainings" in html
    assert "0.860" in html and "0.837" in html and "+0.023 [" in html
    assert html.count('<td class="left">good fit</td>') == 1 and html.count("still learning") == len(ARMS) - 1
    assert "fashion &lt;b&gt;" in html and "secret" not in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)


def test_with_ten_seeds_the_page_gives_corrected_p_values() -> None:
    html = page.render(results(num_seeds=10))
    assert html.count("Corrected p") == len(ARMS) - 1 and "too few" not in html


def test_a_tuning_adds_what_each_strength_did() -> None:
    assert 'id="doses"' not in page.render(results())
    tuned = page.render(replace(results(), doses=made_up_doses(), chosen=CHOSEN))
    assert 'id="doses"' in tuned and tuned.count('src="data:image/png') == 4


def test_the_headline_says_when_nothing_was_better() -> None:
    assert page.headline(results()) == (
        "Best on validation: augmentation. On the test images, read once, it gets 0.860 and the baseline 0.837: "
        "+0.023 [+0.009, +0.038]."
    )
    alone = replace(results(), champion="baseline", tested=None, test_accuracies={"baseline": 0.8367})
    assert page.headline(alone) == "No arm is better than the baseline on validation; on the test images it gets 0.837."
    assert "No\n    arm is better on validation" in page.render(alone)


def test_the_page_of_a_tuning_marks_what_was_chosen() -> None:
    html = page.render_tuning(
        made_up_doses(), CHOSEN, monitor="val/loss", command="python -m x", title="lenet on digits"
    )
    assert html.count('class="chosen"') == 1
    assert re.search(r'class="chosen"><th scope="row">dropout</th><td class="left"><code>model.dropout=0.5', html)


@pytest.mark.parametrize("num_arms", [2, 10])
def test_pictures_grow_with_the_arms(num_arms: int) -> None:
    arms = [made_up_arm(name) for name in list(ARMS)[:num_arms]]
    for png in (figures.forest(effects(arms[0], arms[1:])), figures.scatter(arms), figures.curves(arms)):
        assert min(Image.open(BytesIO(png)).size) > 150
