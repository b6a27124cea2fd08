"""What a cure says at its end."""

import pytest

from pipeline.artefacts.rounds import RoundsRecord
from pipeline.lab import output
from pipeline.metrics.paired import Difference


@pytest.mark.parametrize(
    ("low", "high", "promise"),
    [
        (0.04, 0.08, "more images would help"),
        (-0.01, 0.11, "more images may help, which 10 pairs of trainings do not show"),
        (-0.01, 0.01, "more of them promise little"),
    ],
)
def test_the_worth_of_more_images_is_told_as_surely_as_it_is_known(low: float, high: float, promise: str) -> None:
    gain = Difference(mean=(low + high) / 2, low=low, high=high, n=10, detectable=0.05)
    rounds = RoundsRecord.model_construct(more_data=gain)
    assert output.worth_of_data(rounds).endswith(f"of accuracy: {promise}.")
    assert output.worth_of_data(RoundsRecord.model_construct(more_data=None)) == ""
