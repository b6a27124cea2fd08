"""Seeds of independent streams."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.seeds import derive_seed


@given(st.integers(0, 2**40), st.sampled_from(["split", "limit", "weights"]))
def test_seed_has_32_bits_and_differs_by_name(seed: int, name: str) -> None:
    assert 0 <= derive_seed(seed, name) < 2**32
    assert derive_seed(seed, name) != derive_seed(seed, name + "x")


def test_seeds_never_change() -> None:
    assert derive_seed(0, "split") == 2173782163  # of all results published so far
