"""Tests the importance of a sweep's keys: a known function is recognised, and noise is called noise."""

import numpy as np
import pytest

from pipeline.sweep import importance


def sweep(num_jobs: int) -> dict[str, list[str]]:
    generator = np.random.default_rng(0)
    return {
        "model.dropout": [f"{value:.4g}" for value in generator.uniform(0, 0.6, num_jobs)],
        "optimizer.lr": [f"{value:.4g}" for value in 10 ** generator.uniform(-4, -1, num_jobs)],
        "model": [("lenet", "convnet", "resnet")[index] for index in generator.integers(0, 3, num_jobs)],
    }


def test_the_key_that_decides_stands_first_and_one_without_effect_is_worth_nothing() -> None:
    settings = sweep(40)
    scores = [(np.log10(float(lr)) + 2) ** 2 for lr in settings["optimizer.lr"]]
    measured = importance.measure(settings, scores)
    assert measured is not None and measured.num_jobs == 40
    assert next(iter(measured.means)) == "optimizer.lr" and measured.means["optimizer.lr"] > 0.5
    assert measured.means["model"] < 0.05 and measured.means["model.dropout"] < 0.05
    assert measured.explained > 0.8


def test_words_count_as_well_as_numbers() -> None:
    settings = sweep(40)
    measured = importance.measure(settings, [float(name == "resnet") for name in settings["model"]])
    assert measured is not None and next(iter(measured.means)) == "model"


def test_noise_explains_nothing_on_jobs_that_were_not_seen() -> None:
    measured = importance.measure(sweep(40), np.random.default_rng(1).normal(size=40).tolist())
    assert measured is not None and measured.explained < 0.2


@pytest.mark.parametrize(
    ("settings", "scores"),
    [
        (sweep(importance.MIN_JOBS - 1), list(range(importance.MIN_JOBS - 1))),
        ({}, list(range(20))),
        (sweep(20), [0.5] * 20),
    ],
    ids=["too few jobs", "nothing varied", "equal results"],
)
def test_where_there_is_nothing_to_learn_from_nothing_is_measured(
    settings: dict[str, list[str]], scores: list[float]
) -> None:
    assert importance.measure(settings, scores) is None
