"""Rewards that are guessed: their mean, their spread, and what may be gained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effnas.controllers.posterior import (
    MetricPosterior,
    Posterior,
    metrics_that_matter,
    reward_posterior,
)
from effnas.trials.reward import Reward


def guessed(mean: float, deviation: float, *, is_log: bool = False) -> MetricPosterior:
    return MetricPosterior(np.array([mean]), np.array([deviation]), is_log)


def test_a_product_of_powers_comes_close_to_what_drawing_gives() -> None:
    unknown = {
        "accuracy": guessed(np.log(0.6), 0.02, is_log=True),
        "step_time": guessed(np.log(1.2), 0.1, is_log=True),
    }
    guess = reward_posterior(lambda m: m["accuracy"] * m["step_time"] ** -0.07, {}, unknown)
    rng = np.random.default_rng(0)
    draws = 0.6 * np.exp(0.02 * rng.normal(size=100_000))
    draws *= (1.2 * np.exp(0.1 * rng.normal(size=100_000))) ** -0.07
    assert guess.mean[0] == pytest.approx(draws.mean(), rel=1e-3)
    assert guess.deviation[0] == pytest.approx(draws.std(), rel=0.02)


def test_guesses_stay_within_the_bounds_of_a_metric() -> None:
    assert guessed(0.99, 0.1).values("accuracy", 3.0) == 1.0
    assert guessed(0.01, 0.1).values("accuracy", -3.0) == 0.0
    assert np.isfinite(guessed(0.0, 1e6, is_log=True).values("step_time", 1.0)).all()


def test_the_expected_gain_is_what_drawing_gives() -> None:
    guess = Posterior(np.array([0.0, 1.0, -1.0, 2.0]), np.array([1.0, 0.5, 0.7, 0.0]))
    rng = np.random.default_rng(0)
    draws = guess.mean + guess.deviation * rng.normal(size=(400_000, 4))
    assert guess.expected_improvement(0.5) == pytest.approx(
        np.maximum(draws - 0.5, 0).mean(axis=0), abs=3e-3
    )


def test_the_logarithm_of_the_gain_is_its_logarithm_and_goes_on_below() -> None:
    mean = np.linspace(-3, 3, 13)
    guess = Posterior(mean, np.full(13, 0.8))
    assert guess.log_expected_improvement(0.0) == pytest.approx(
        np.log(guess.expected_improvement(0.0)), abs=1e-6
    )
    far = Posterior(
        np.array([-100.0, -50.0, -10.0, -5.1, -4.9]), np.ones(5)
    ).log_expected_improvement(0.0)
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()
    assert np.isfinite(Posterior(np.array([0.3]), np.zeros(1)).log_expected_improvement(0.3)).all()


METRICS = {"accuracy": 0.5, "step_time": 1.2, "params_ratio": 0.9, "train_loss": 1.0}


def test_of_a_function_it_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def mine(metrics):\n    return metrics['accuracy'] - metrics.get('train_loss', 0) / 10\n"
    )
    reward = Reward.load(f"{path}:mine")
    assert metrics_that_matter(reward, METRICS, reward.score(METRICS)) == ["accuracy", "train_loss"]
