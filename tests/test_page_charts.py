"""The geometry of the charts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import history
from pipeline.page import charts
from tests.page_artefacts import BEST_EPOCH, rows


def test_lines_run_inside_the_axes_and_up_is_more() -> None:
    loss, accuracy = charts.charts(rows(), BEST_EPOCH)
    for chart in (loss, accuracy):
        for series in ("clean", "val"):
            assert all(charts.TOP < y < charts.HEIGHT - charts.BOTTOM for y in chart.y[series])
            order = sorted(range(6), key=lambda index: chart.values[series][index])
            assert order == sorted(range(6), key=lambda index: -chart.y[series][index])
    assert loss.x[0] == charts.LEFT and loss.x[-1] == charts.WIDTH - charts.RIGHT


def test_best_epoch_is_marked_at_its_place() -> None:
    loss, _ = charts.charts(rows(), BEST_EPOCH)
    assert loss.best == loss.x[BEST_EPOCH - 1] and loss.best_index == BEST_EPOCH - 1


def test_gap_lies_between_training_and_validation() -> None:
    loss, _ = charts.charts(rows(2), best_epoch=1)
    corners = [f"{x:g},{y:g}" for x, y in zip(loss.x, loss.y["clean"], strict=True)]
    corners += [f"{x:g},{y:g}" for x, y in zip(loss.x[::-1], loss.y["val"][::-1], strict=True)]
    assert loss.gap().split() == corners


def test_far_start_of_the_running_average_does_not_press_the_curves_together() -> None:
    made = rows()
    made[0][history.TRAIN_LOSS] = 1000.0
    near, far = charts.charts(rows(), BEST_EPOCH)[0], charts.charts(made, BEST_EPOCH)[0]
    assert near.y["clean"] == far.y["clean"]
    assert far.y["train"][0] < 0


@pytest.mark.parametrize("num_epochs", [1, 2, 15, 300])
def test_every_length_of_training_has_ticks(num_epochs: int) -> None:
    for chart in charts.charts(rows(num_epochs), best_epoch=1):
        assert chart.x_ticks[0].label == "1" and len(chart.x_ticks) <= 9
        assert len({tick.label for tick in chart.y_ticks}) == len(chart.y_ticks) >= 2


def test_constant_series_are_drawn() -> None:
    flat = [{**row, **dict.fromkeys(history.METRICS, 0.5)} for row in rows(3)]
    loss, _ = charts.charts(flat, best_epoch=1)
    assert len(set(loss.y["clean"])) == 1 and loss.y_ticks


def test_summary_tells_the_numbers() -> None:
    _, accuracy = charts.charts(rows(), BEST_EPOCH)
    assert "Accuracy over 6 epochs: training from 0.500 to 0.917" in accuracy.summary()
    assert "With the weights kept training is 0.875, validation 0.812" in accuracy.summary()


def test_script_gets_the_numbers_of_the_history() -> None:
    drawn = charts.charts(rows(), BEST_EPOCH)
    content = charts.for_script(rows(), drawn)
    assert content["epochs"] == [1, 2, 3, 4, 5, 6] and content["best"] == BEST_EPOCH - 1
    assert content["charts"]["loss"]["values"]["val"] == [row[history.VAL_LOSS] for row in rows()]


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(2, 8))
def test_steps_are_even_and_inside(low: float, span: float, count: int) -> None:
    steps = charts.round_steps(low, low + span, count)
    assert 1 <= len(steps) <= 2 * count + 1
    tolerance = 1e-6 * (abs(low) + span)
    assert all(low - tolerance <= step <= low + span + tolerance for step in steps)
    differences = [after - before for before, after in pairwise(steps)]
    assert all(difference == pytest.approx(differences[0], abs=1e-9 * (abs(low) + 1)) for difference in differences)
