"""TuNAS's controller, and what controllers that learn a policy share."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import SearchSpace, TrialState
from effnas.controllers.base import Controller
from effnas.controllers.policy import BASELINE_DECAY, CLOSED, Decisions
from effnas.controllers.tunas import BETA2, LEARNING_RATE, TunasController
from effnas.testing import (
    FOREIGN,
    MNASNET,
    NARROW,
    TINY,
    ControllerContract,
    ended,
    luck,
    play,
    proposals,
)

INFEASIBLE, FAILED, PRUNED = TrialState.INFEASIBLE, TrialState.FAILED, TrialState.PRUNED

# fused with e1 has no squeeze-and-excitation, conv has no expansion, identity has nothing.
CONDITIONAL = SearchSpace.parse(
    "stages: ['<conv|fused|identity>_r<1|2>_k<3|5>_s1_e<1|4>_c8_se<0|0.25>',"
    " 'mbconv_r<1..3>_k3_s2_e1_c16']"
)


class TestTunas(ControllerContract):
    def make(self, space: SearchSpace, seed: int) -> Controller:
        return TunasController(space, seed)


@pytest.mark.parametrize("space", [TINY, MNASNET, NARROW, CONDITIONAL])
def test_rows_stand_for_architectures(space: SearchSpace) -> None:
    decisions, rng = Decisions(space), np.random.default_rng(0)
    assert len(decisions.sizes) == len(space.choices)
    archs = [space.sample(rng) for _ in range(50)]
    rows = np.stack([decisions.encode(arch) for arch in archs])
    assert [decisions.architecture(row.tolist()) for row in rows] == archs
    for column in range(rows.shape[1]):
        assert (decisions.is_open(rows, column) == (rows[:, column] != CLOSED)).all()
    assert decisions.encode(FOREIGN) is None


def learned(controller: TunasController) -> list[float]:
    """Collect the advantages that a controller learns from."""
    advantages: list[float] = []
    controller.reinforce = lambda number, row, advantage: advantages.append(advantage)  # type: ignore[method-assign]
    return advantages


def test_the_baseline_is_the_moving_average_of_earlier_rewards() -> None:
    controller = TunasController(MNASNET)
    advantages = learned(controller)
    rewards = [0.5, -1.0, 7.0, 2.0]
    for number, reward in enumerate(rewards):
        controller.tell(ended(number, controller.ask(number), reward))
    assert BASELINE_DECAY == 0.95
    baseline, expected = rewards[0], []
    for reward in rewards:
        expected.append(reward - baseline)
        baseline = 0.95 * baseline + 0.05 * reward
    assert advantages == pytest.approx(expected)


def test_infeasible_counts_as_the_lowest_reward_and_other_failures_do_not_count() -> None:
    controller = TunasController(MNASNET)
    advantages = learned(controller)
    fates = [INFEASIBLE, FAILED, 0.5, PRUNED, 0.5, 0.3, FAILED, INFEASIBLE]
    for number, fate in enumerate(fates):
        controller.tell(ended(number, controller.ask(number), fate))
    controller.tell(ended(8, FOREIGN, 9.0))
    assert advantages == pytest.approx([0, 0, -0.2, -0.19])


def test_steps_are_those_of_adam_with_the_published_momenta() -> None:
    assert BETA2 == 0.999
    torch = pytest.importorskip("torch")
    controller = TunasController(CONDITIONAL)
    assert not controller.logits.any()
    logits = torch.zeros(controller.logits.shape, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=LEARNING_RATE, betas=(0.0, 0.999))
    missing = torch.arange(logits.shape[1]) >= torch.tensor(controller.decisions.sizes)[:, None]
    rng = np.random.default_rng(0)
    for advantage in (0.3, -0.1, 0.2, 0.0, -0.4):
        row = controller.decisions.encode(CONDITIONAL.sample(rng))
        assert row is not None
        controller.reinforce(0, row, advantage)
        logs = logits.masked_fill(missing, -torch.inf).log_softmax(dim=1)
        taken = [logs[c, o] for c, o in enumerate(row.tolist()) if o != CLOSED]
        adam.zero_grad()
        (-advantage * sum(taken)).backward()
        adam.step()
    assert controller.logits == pytest.approx(logits.detach().numpy())


def test_sure_of_itself_it_still_proposes_what_is_new_and_near() -> None:
    controller = TunasController(MNASNET)
    controller.logits[:, 0] = 6.0
    told = play(controller, 60, luck)
    rows = [controller.decisions.encode(t.architecture) for t in told if t.state.is_finished]
    assert len(set(proposals(told))) == 60
    assert np.mean([(row != 0).sum() for row in rows if row is not None]) < 4
