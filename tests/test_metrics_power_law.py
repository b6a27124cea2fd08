"""Tests the fit and the forecast of the power law, on exact errors and on noisy ones."""

import numpy as np
import pytest

from pipeline.metrics import power_law
from pipeline.metrics.power_law import PowerLaw, fit, forecast

SIZES = (100, 200, 400, 700, 1000)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bootstraps a tenth as often as users do: enough for an interval."""
    monkeypatch.setattr(power_law, "NUM_RESAMPLES", 40)


@pytest.mark.parametrize("law", [PowerLaw(0.0, 3.0, 0.5), PowerLaw(0.08, 1.0, 0.3), PowerLaw(0.02, 20.0, 1.0)])
def test_a_law_without_noise_is_found_and_continued(law: PowerLaw) -> None:
    found = fit({size: law.error(size) for size in SIZES})
    assert found.error(2000) == pytest.approx(law.error(2000), abs=1e-4)
    assert found.exponent == pytest.approx(law.exponent, rel=0.05)


def test_errors_that_do_not_fall_promise_nothing() -> None:
    found = forecast({size: [0.8, 0.8, 0.8] for size in SIZES}, 2000)
    assert found.accuracy == pytest.approx(0.8, abs=1e-3)
    assert found.high - found.low < 1e-3


@pytest.mark.long
def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    law, draw, held = PowerLaw(0.05, 2.0, 0.5), np.random.default_rng(0), 0
    for _ in range(12):
        accuracies = {size: list(1 - law.error(size) + draw.normal(0, 0.005, 6)) for size in SIZES}
        found = forecast(accuracies, 2000)
        held += found.low <= 1 - law.error(2000) <= found.high
    assert 8 <= held <= 12, held


def test_two_sizes_are_no_curve() -> None:
    with pytest.raises(ValueError, match="three numbers of images or more; got 2"):
        fit({100: 0.3, 200: 0.2})
