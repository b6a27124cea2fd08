"""What a cure says at its end."""

import pytest

from pipeline.artefacts.rounds import ConfirmationRecord, RoundRecord, RoundsRecord
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


def confirmed(change: str, mean: float) -> RoundRecord:
    accuracy = Difference(mean=mean, low=mean - 0.14, high=mean + 0.14, n=10, detectable=0.1)
    record = ConfirmationRecord.model_construct(before="overfitting", after="overfitting", accuracy=accuracy)
    return RoundRecord.model_construct(chosen=change, confirmation=record)


def test_a_cure_without_an_adoption_names_what_was_most_promising() -> None:
    tried = [confirmed("model=convnet prepare.size=64", 0.11), confirmed("train.batch_size=16", 0.03)]
    ended = RoundsRecord.model_construct(adopted=[], reason="the budget is spent", rounds=tried)
    assert output.headline(ended) == (
        "Nothing was adopted. It ended because the budget is spent. Most promising was model=convnet prepare.size=64: accuracy "
        "+0.110 [-0.030, +0.250] in 10 pairs of trainings, which is not sure. To take it all the same: dvc exp run -S "
        "++model=convnet -S ++prepare.size=64"
    )
    for rounds in ([confirmed("train.batch_size=16", 0.01)], []):
        ended = RoundsRecord.model_construct(adopted=[], reason="the budget is spent", rounds=rounds)
        assert output.headline(ended) == "Nothing was adopted. It ended because the budget is spent."
    taken = RoundsRecord.model_construct(adopted=["model=convnet"], reason="it fits, on its seed", rounds=tried)
    assert output.headline(taken) == "Adopted: model=convnet. It ended because it fits, on its seed."
