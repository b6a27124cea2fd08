import pytest
import torch
from torch import nn

from pipeline.model import decay_, l1, l2, penalized
from tests.networks import network


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, -2.0, 0.0])), nn.Parameter(torch.tensor([[-3.0], [0.5]]))]


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_weights_are_penalized_and_biases_and_normalization_are_not(normalization: str) -> None:
    model = network("convnet", normalization=normalization, hidden=16)
    chosen = {id(parameter) for parameter in penalized(model)}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in chosen}
    convolutions = {f"features.block_{number}_convolution.weight" for number in (1, 2, 3)}
    assert names == convolutions | {"head.hidden.weight", "head.classes.weight"}


def test_l1_is_the_sum_of_magnitudes_and_its_gradient_the_sign() -> None:
    weights = parameters()
    penalty = l1(weights)
    penalty.backward()
    assert penalty.item() == 6.5
    assert [weight.grad.tolist() for weight in weights] == [[1.0, -1.0, 0.0], [[-1.0], [1.0]]]


def test_l2_is_half_the_sum_of_squares_and_its_gradient_the_weight() -> None:
    weights = parameters()
    penalty = l2(weights)
    penalty.backward()
    assert penalty.item() == pytest.approx((1 + 4 + 9 + 0.25) / 2)
    for weight in weights:
        torch.testing.assert_close(weight.grad, weight.detach())


def test_l2_of_weights_that_are_all_zero_has_a_finite_gradient() -> None:
    weight = nn.Parameter(torch.zeros(3))
    l2([weight]).backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.0, 0.0, 0.0]


def test_decay_shrinks_exactly_the_penalized_parameters() -> None:
    model = network("convnet", normalization="none", hidden=16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    decay_(penalized(model), 0.25)
    kept = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    assert kept == {name: [1.5] if name.endswith(".weight") else [2.0] for name in kept}


def test_decay_leaves_gradients_alone() -> None:
    weights = parameters()
    l2(weights).backward()
    gradients = [weight.grad.clone() for weight in weights]
    decay_(weights, 0.5)
    assert all(torch.equal(weight.grad, before) for weight, before in zip(weights, gradients, strict=True))


def test_decay_equals_a_step_of_plain_gradient_descent_on_l2() -> None:
    decayed, descended = parameters(), parameters()
    decay_(decayed, 0.1 * 0.03)
    (0.03 * l2(descended)).backward()
    torch.optim.SGD(descended, lr=0.1).step()
    torch.testing.assert_close(decayed, descended)
