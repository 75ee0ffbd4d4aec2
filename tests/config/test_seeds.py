"""Seeds of any size are seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effnas import Search
from effnas.config.seeds import bounded_seed
from effnas.controllers.registry import CONTROLLERS


@given(st.integers(0, 10**40), st.sampled_from([32, 64]))
def test_a_seed_that_is_small_enough_stays_and_others_become_so(seed: int, bits: int) -> None:
    found = bounded_seed(seed, bits)
    assert 0 <= found < 1 << bits
    assert found == seed or seed >= 1 << bits
    torch.Generator().manual_seed(found)


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("seed", [2**32, 10**30])
def test_every_controller_takes_a_seed_of_any_size(controller: str, seed: int) -> None:
    def first(seed: int) -> list[str]:
        search = Search("tiny", "A", controller, seed=seed)
        for _ in range(3):
            search.tell(search.ask(), accuracy=0.5)
        return [trial.architecture.id for trial in search.trials]

    assert first(seed) == first(seed)
