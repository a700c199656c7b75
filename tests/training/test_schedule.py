from __future__ import annotations

import math

import pytest

from cvgeo.config.load import resolve
from cvgeo.config.schema import TrainConfig
from cvgeo.errors import UsageError
from cvgeo.training.schedule import check_schedule, learning_rate


@pytest.mark.parametrize(("epoch", "rate"), [(0.0, 1e-5), (29.99, 1e-5), (30.0, 1e-6), (49.9, 1e-6), (50.5, 1e-7)])
def test_the_paper_steps_at_30_and_50(epoch: float, rate: float) -> None:
    assert learning_rate(resolve(recipe="paper").train, epoch) == rate


def test_the_order_of_milestones_does_not_matter() -> None:
    train = TrainConfig(milestones={"50": 1e-7, "30": 1e-6})
    assert learning_rate(train, 55) == 1e-7


def test_cosine_after_warm_up() -> None:
    train = TrainConfig(schedule="cosine", learning_rate=2.0, epochs=12, warmup_epochs=2.0)
    assert learning_rate(train, 0.5) == pytest.approx(0.5)
    assert learning_rate(train, 2.0) == pytest.approx(2.0)
    assert learning_rate(train, 7.0) == pytest.approx(1.0)
    assert learning_rate(train, 4.5) == pytest.approx(1 + math.cos(math.pi / 4))
    assert learning_rate(train, 12.0) == pytest.approx(0.0)


def test_constant_and_a_warm_up_as_long_as_the_run() -> None:
    assert learning_rate(TrainConfig(schedule="constant", learning_rate=0.3), 40) == 0.3
    assert learning_rate(TrainConfig(schedule="cosine", epochs=2, warmup_epochs=2.0, learning_rate=1), 1.5) == 0.75


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (TrainConfig(schedule="step"), "unknown train.schedule 'step'; known: steps"),
        (TrainConfig(schedule="exponential"), "train.decay_epochs = 0: the exponential schedule needs its time"),
        (TrainConfig(milestones={"thirty": 1e-6}), "'thirty' = 1e-06 is not an epoch"),
        (TrainConfig(milestones={"30": None}), "is not an epoch and a learning rate"),
    ],
)
def test_bad_schedules_are_refused(train: TrainConfig, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_schedule(train)


def test_linear_and_exponential_after_warm_up() -> None:
    train = TrainConfig(schedule="linear", learning_rate=2.0, epochs=12, warmup_epochs=2.0)
    assert [learning_rate(train, epoch) for epoch in (1.0, 2.0, 7.0, 12.0)] == pytest.approx([1.0, 2.0, 1.0, 0.0])
    train = TrainConfig(schedule="exponential", learning_rate=2.0, decay_epochs=40.0, warmup_epochs=2.0)
    assert [learning_rate(train, epoch) for epoch in (2.0, 42.0, 82.0)] == pytest.approx([2.0, 0.2, 0.02])
