"""Tests that a projection tells a curve that goes on falling from one that has settled, whatever its floor."""

import numpy as np
import pytest

from pipeline.metrics.projection import FEWEST, projected_fall

EPOCHS = np.arange(1, 61)
CURVES = {
    "power law": 0.3 + 2 * EPOCHS**-0.5,
    "exponential": 0.3 + 2 * np.exp(-EPOCHS / 25),
    "settled": 0.3 + 2 * np.exp(-EPOCHS / 2.0),
    "rising": 0.3 + 0.01 * EPOCHS,
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("floor", [0.0, 3.0])
def test_the_fall_is_that_of_the_curve_whatever_its_floor(name: str, floor: float) -> None:
    curve = CURVES[name] + floor
    fall = projected_fall(curve[:30])
    assert fall is not None
    assert fall.value == pytest.approx(max(0.0, curve[29] - curve[59]), rel=0.1, abs=0.02)
    assert fall.low <= fall.value <= fall.high


def test_noise_widens_the_interval_which_holds_the_truth_in_most_cases() -> None:
    truth, held = CURVES["exponential"][29] - CURVES["exponential"][59], 0
    widths = {}
    for spread in (0.01, 0.05):
        found = []
        for seed in range(40):
            noise = np.random.default_rng(seed).normal(0, spread, 30)
            fall = projected_fall(CURVES["exponential"][:30] + noise)
            assert fall is not None
            found.append(fall.high - fall.low)
            held += fall.low <= truth <= fall.high
        widths[spread] = float(np.mean(found))
    assert widths[0.05] > 1.2 * widths[0.01]
    assert held >= 0.8 * 80


def test_noise_around_a_level_promises_nothing() -> None:
    surely = 0
    for seed in range(40):
        fall = projected_fall(0.5 + np.random.default_rng(seed).normal(0, 0.05, 30))
        assert fall is not None
        surely += fall.low > 0.01
    assert surely <= 2


def test_few_epochs_are_not_projected() -> None:
    assert projected_fall(np.linspace(2, 1, FEWEST - 1)) is None
    assert projected_fall(np.linspace(2, 1, FEWEST)) is not None
