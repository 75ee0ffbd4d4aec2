"""The controller of MnasNet (Tan et al. 2019), which is that of NASNet (Zoph et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effnas.config.seeds import bounded_seed
from effnas.controllers.policy import CLOSED, Decisions, PolicyController, pick
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial

# Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", appendix.
HIDDEN = 100
LEARNING_RATE = 3.5e-4
ENTROPY_BONUS = 1e-5
INITIAL_RANGE = 0.1
MINIBATCH = 20
# Not published there. The clip is that of PPO itself (Schulman et al. 2017, section 6.1); the
# epochs are those of PPO on its continuous tasks (table 3).
CLIP = 0.2
EPOCHS = 10


class Policy(nn.Module):
    """An LSTM that goes through all decisions of a space, with a softmax for each.

    Its input is the option that was taken in the decision before. Options are embedded with as
    many numbers as the LSTM has units, which is not published.
    """

    def __init__(self, decisions: Decisions, seed: int) -> None:
        super().__init__()
        self.decisions = decisions
        sizes = torch.tensor(decisions.sizes, dtype=torch.int64)
        options = max(decisions.sizes, default=1)
        # Which number stands for the first option of a decision; 0 stands for none taken.
        self.first = 1 + sizes.cumsum(0) - sizes
        # Decisions with fewer options than the largest one: the others have probability 0.
        self.missing = torch.arange(options) >= sizes[:, None]
        self.embedding = nn.Parameter(torch.empty(1 + sum(decisions.sizes), HIDDEN))
        # On no device, it skips PyTorch's initialisation, which would use the global generator.
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True, device="meta").to_empty(device="cpu")
        self.weight = nn.Parameter(torch.empty(len(sizes), options, HIDDEN))
        self.bias = nn.Parameter(torch.empty(len(sizes), options))
        generator = torch.Generator().manual_seed(bounded_seed(seed, 64))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-INITIAL_RANGE, INITIAL_RANGE, generator=generator)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy of N rows' decisions, given those left of each.

        Args:
            rows: Indices of options, [N, decisions].

        Returns:
            Both [N, decisions], and 0 where a decision is closed.
        """
        taken = self._numbers(rows, self.first)
        before = torch.cat([torch.zeros_like(taken[:, :1]), taken[:, :-1]], dim=1)
        states, _ = self.lstm(self.embedding[before])
        logits = torch.einsum("ndh,doh->ndo", states, self.weight) + self.bias
        logs = logits.masked_fill(self.missing, -torch.inf).log_softmax(dim=-1)
        is_open = rows != CLOSED
        log_probabilities = logs.gather(-1, rows.clamp(min=0)[..., None])[..., 0]
        entropies = -(logs.exp() * logs.masked_fill(self.missing, 0.0)).sum(dim=-1)
        return log_probabilities * is_open, entropies * is_open

    @torch.no_grad()
    def draw(
        self, numbers: NDArray[np.float64], temperatures: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Turn uniform random numbers to rows of decisions.

        Returns:
            Indices of options, [N, decisions].
        """
        divisors = torch.tensor(temperatures, dtype=torch.float32)[:, None]
        rows: NDArray[np.int64] = np.full(numbers.shape, CLOSED, dtype=np.int64)
        taken = torch.zeros(len(rows), dtype=torch.int64)
        state = torch.zeros(len(rows), HIDDEN), torch.zeros(len(rows), HIDDEN)
        weights = list(self.lstm.parameters())
        for column in range(rows.shape[1]):
            # One step of `self.lstm`, in half the time that calling it takes.
            state = torch.lstm_cell(self.embedding[taken], state, *weights)
            logits = state[0] @ self.weight[column].T + self.bias[column]
            odds = (logits / divisors).masked_fill(self.missing[column], -torch.inf).softmax(dim=-1)
            picked = pick(odds.double().numpy(), numbers[:, column])
            rows[:, column] = np.where(self.decisions.is_open(rows, column), picked, CLOSED)
            taken = self._numbers(torch.from_numpy(rows[:, column]), self.first[column])
        return rows

    @staticmethod
    def _numbers(indices: Tensor, first: Tensor) -> Tensor:
        """The numbers that stand for options in the embedding."""
        return torch.where(indices == CLOSED, 0, indices + first)


class ReinforceController(PolicyController):
    """A recurrent network, trained by proximal policy optimisation.

    The published settings: one LSTM layer of 100 units, weights that start uniformly in ±0.1, Adam
    with learning rate 3.5e-4, minibatches of 20 architectures, an entropy bonus of 1e-5, and a
    baseline with decay 0.95. PPO's clip, 0.2, and 10 epochs for each minibatch are those of
    Schulman et al. 2017. Every decision is an action with a probability ratio of its own; all of
    an architecture share its advantage.

    These settings were published for thousands of trials: MnasNet took about 8,000, NASNet 20,000.
    """

    name = "reinforce"

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, problem: Problem | None = None
    ) -> None:
        super().__init__(space, seed, problem=problem)
        self.policy = Policy(self.decisions, seed)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=LEARNING_RATE)
        # Trial's number -> log-probabilities under the policy that proposed it.
        self._proposed_with: dict[int, Tensor] = {}
        # Decisions, the log-probabilities that they were proposed with, and advantage.
        self._minibatch: list[tuple[Tensor, Tensor, float]] = []

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        # When it starts for the first time, the policy is the one that proposed it. A trial that is
        # tried again starts again, which a controller that replays stored trials does not see.
        if not trial.state.is_finished and trial.number not in self._proposed_with:
            row = self.decisions.encode(trial.architecture)
            if row is not None and len(row):
                self._proposed_with[trial.number] = self._log_probabilities(row)
        super().tell(trial)

    def draw(
        self, rng: np.random.Generator, temperatures: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Draw a row of decisions for each temperature, [N, decisions]."""
        numbers = rng.random((len(temperatures), len(self.decisions.sizes)))
        return self.policy.draw(numbers, temperatures)

    def reinforce(self, number: int, row: NDArray[np.int64], advantage: float) -> None:
        """Add a trial to the minibatch, and train with it when it is full."""
        before = self._proposed_with.pop(number, None)
        if before is None:  # a trial that never started here
            before = self._log_probabilities(row)
        self._minibatch.append((torch.from_numpy(row), before, advantage))
        if len(self._minibatch) == MINIBATCH:
            self._train()
            self._minibatch.clear()

    @torch.no_grad()
    def _log_probabilities(self, row: NDArray[np.int64]) -> Tensor:
        logs: Tensor = self.policy(torch.from_numpy(row)[None])[0][0]
        return logs

    def _train(self) -> None:
        """Maximise PPO's clipped objective (Schulman et al. 2017, equation 7), plus entropy."""
        rows = torch.stack([row for row, _, _ in self._minibatch])
        before = torch.stack([logs for _, logs, _ in self._minibatch])
        advantages = torch.tensor([[advantage] for *_, advantage in self._minibatch])
        for _ in range(EPOCHS):
            logs, entropies = self.policy(rows)
            ratios = (logs - before).exp()
            gains = torch.minimum(
                ratios * advantages, ratios.clamp(1 - CLIP, 1 + CLIP) * advantages
            )
            self.optimizer.zero_grad()
            # A closed decision has ratio 1 whatever the weights: it adds a constant.
            (-(gains + ENTROPY_BONUS * entropies).sum(dim=1).mean()).backward()
            self.optimizer.step()
