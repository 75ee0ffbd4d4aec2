"""MnasNet's controller: the published network and settings, and proximal policy optimisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_tunas import CONDITIONAL

from effnas import Architecture, SearchSpace, TrialState
from effnas.controllers.base import Controller
from effnas.controllers.reinforce import MINIBATCH, ReinforceController
from effnas.testing import MNASNET, TINY, ControllerContract, ended, mixed, play, started

FAILED = TrialState.FAILED


@pytest.mark.slow
class TestReinforce(ControllerContract):
    length = 40

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return ReinforceController(space, seed)


def weights(controller: ReinforceController) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in controller.policy.parameters()])


def test_the_published_settings_are_used() -> None:
    controller = ReinforceController(MNASNET)
    lstm = controller.policy.lstm
    assert (lstm.hidden_size, lstm.num_layers, lstm.bidirectional) == (100, 1, False)
    assert isinstance(controller.optimizer, torch.optim.Adam)
    assert controller.optimizer.param_groups[0]["lr"] == 3.5e-4
    assert MINIBATCH == 20
    for parameter in controller.policy.parameters():
        assert parameter.abs().max() <= 0.1
    # A uniform distribution in ±0.1 has this deviation.
    assert weights(controller).std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


@pytest.mark.slow
def test_torchs_global_state_neither_matters_nor_changes() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        controller = ReinforceController(TINY, 5)
        play(controller, 21)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(weights(controller))
    assert torch.equal(*found)


def all_rows(controller: ReinforceController) -> torch.Tensor:
    archs = controller.space.architectures()
    return torch.tensor(np.array([controller.decisions.encode(arch) for arch in archs]))


def test_the_probabilities_of_all_architectures_sum_to_1() -> None:
    controller = ReinforceController(CONDITIONAL, 3)
    with torch.no_grad():
        for parameter in controller.policy.parameters():
            parameter.mul_(10)  # far from uniform
        logs, entropies = controller.policy(all_rows(controller))
        probabilities = logs.sum(dim=1).exp()
    assert len(probabilities) == CONDITIONAL.size
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 3 * probabilities.min()
    # The entropy of a whole is the expected sum of those of its parts: closed ones have none.
    whole = -(probabilities * probabilities.log()).sum()
    assert (probabilities * entropies.sum(dim=1)).sum().item() == pytest.approx(whole.item(), 1e-4)


def test_draws_have_the_probabilities_that_training_takes_them_to_have() -> None:
    controller = ReinforceController(CONDITIONAL, 3)
    with torch.no_grad():
        for parameter in controller.policy.parameters():
            parameter.mul_(8)
    drawn = controller.draw(np.random.default_rng(0), np.ones(5_000))
    rows = all_rows(controller)
    with torch.no_grad():
        probabilities = controller.policy(rows)[0].sum(dim=1).exp().numpy()
    shares = np.array([(drawn == row).all(axis=1).mean() for row in rows.numpy()])
    assert shares.sum() == pytest.approx(1)  # nothing else is drawn
    deviations = np.sqrt(probabilities * (1 - probabilities) / len(drawn))
    assert (np.abs(shares - probabilities) <= 5 * deviations).all()


@pytest.mark.slow
def test_the_ratio_is_to_the_policy_that_proposed() -> None:
    controller = ReinforceController(TINY)
    arch = controller.ask(0)
    row = controller.decisions.encode(arch)
    assert row is not None
    then = controller._log_probabilities(row)
    controller.tell(started(0, arch))
    play(controller, MINIBATCH, first=1)  # trains
    assert not torch.equal(controller._log_probabilities(row), then)
    controller.tell(ended(0, arch, FAILED))
    controller.tell(started(0, arch))  # the second start, of which a replay does not tell
    controller.tell(ended(0, arch, 1.0))
    assert torch.equal(controller._minibatch[-1][1], then)


@pytest.mark.slow
def test_told_stored_trials_again_it_has_the_same_weights() -> None:
    live, again = ReinforceController(TINY), ReinforceController(TINY)
    stored = []
    running: list[tuple[int, Architecture]] = []
    for number in range(48):
        running.append((number, live.ask(number)))
        events = [started(*running[-1])]
        if number >= 8:  # eight at a time; every fifth fails at first
            other, arch = running.pop(0)
            if other % 5 == 0:
                events += [ended(other, arch, FAILED), started(other, arch)]
            events.append(ended(other, arch, mixed(arch) if other % 5 else 0.4))
        for event in events:
            live.tell(event)
        stored += events
    told = set()
    for event in stored:
        if (event.number, event.state) not in told:
            told.add((event.number, event.state))
            again.tell(event)
    assert torch.equal(weights(live), weights(again))
    assert live.ask(48) == again.ask(48)
