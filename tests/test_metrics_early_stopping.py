"""Tests early stopping on scripted losses, without training."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.early_stopping import PATIENCES, Stop, stopping_epoch, stops_in_hindsight

FALLS_AND_RISES = [3.0, 2.0, 1.0, 1.1, 1.2, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"patience": 1}, 4),
        ({"patience": 2}, 5),
        ({"patience": 3}, 9),
        ({"patience": 5}, 11),
        ({"patience": 6}, None),
        ({"patience": 2, "warmup_epochs": 4}, 8),
        ({"patience": 2, "warmup_epochs": 8}, 10),
        ({"patience": 3, "min_delta": 0.2}, 6),
        ({"patience": 2, "rising": True}, 3),
    ],
)
def test_training_stops_after_so_many_epochs_without_a_gain(options: dict[str, float], expected: int | None) -> None:
    assert stopping_epoch(FALLS_AND_RISES, **options) == expected  # type: ignore[arg-type]


def test_a_gain_must_exceed_min_delta_strictly() -> None:
    assert stopping_epoch([1.0, 0.5], patience=1, min_delta=0.5) == 2
    assert stopping_epoch([1.0, 0.49], patience=1, min_delta=0.5) is None


def test_nothing_stops_before_there_is_something_to_compare() -> None:
    assert stopping_epoch([], patience=1) is None and stopping_epoch([1.0], patience=1) is None


def test_hindsight_names_where_each_patience_would_have_stopped_and_what_it_would_have_kept() -> None:
    stops = stops_in_hindsight(FALLS_AND_RISES)
    assert stops == [Stop(1, 4, 3, 1.0), Stop(2, 5, 3, 1.0), Stop(3, 9, 6, 0.9), Stop(5, 11, 6, 0.9)]
    assert stops_in_hindsight([-value for value in FALLS_AND_RISES], rising=True)[2] == Stop(3, 9, 6, -0.9)


LOSSES = st.lists(st.integers(0, 9).map(float), max_size=30)


@given(LOSSES, st.integers(1, 6), st.integers(0, 10))
def test_what_comes_later_never_changes_an_earlier_stop(losses: list[float], patience: int, warmup: int) -> None:
    stop = stopping_epoch(losses, patience=patience, warmup_epochs=warmup)
    if stop is None:
        return
    assert stop > warmup and stop > patience
    assert stopping_epoch(losses[:stop], patience=patience, warmup_epochs=warmup) == stop
    assert stopping_epoch(losses[: stop - 1], patience=patience, warmup_epochs=warmup) is None
    waited = losses[stop - patience : stop]
    assert min(waited) >= min(losses[: stop - patience])


@given(LOSSES, st.integers(1, 5))
def test_more_patience_never_stops_earlier_nor_keeps_a_worse_epoch(losses: list[float], patience: int) -> None:
    never = len(losses) + 1
    sooner, later = (stopping_epoch(losses, patience=number) or never for number in (patience, patience + 1))
    assert sooner <= later
    stops = stops_in_hindsight(losses)
    assert [stop.patience for stop in stops] == list(PATIENCES[: len(stops)])
    assert all(first.best_value >= second.best_value for first, second in pairwise(stops))
