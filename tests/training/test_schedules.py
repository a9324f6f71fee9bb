"""The learning rate over a run: closed-form points of every schedule, and what is refused."""

import math

import jax
import numpy as np
import pytest

from zoo.errors import ConfigError
from zoo.training.optim_config import (
    OptimConfig,
    OptimizerName,
    optimizer_defaults,
    parse_freeze,
)
from zoo.training.schedules import extendable, recipe_warmup, schedule

NAMES = ("constant", "linear", "cosine", "inverse_sqrt", "wsd")


def config(**fields):
    return OptimConfig(**({"schedule": "constant", "warmup": 0} | fields))


def curve(steps, **fields):
    factor = schedule(config(**fields), steps)
    return np.array([float(factor(step)) for step in range(steps)])


@pytest.mark.parametrize("name", NAMES)
def test_warmup_moves_at_the_first_step_and_reaches_the_peak_at_its_last(name):
    factors = curve(20, schedule=name, warmup=5)
    np.testing.assert_allclose(factors[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0, 1, 7, 16])
def test_every_factor_is_positive_and_at_most_the_peak(name, warmup):
    factors = curve(20, schedule=name, warmup=warmup)
    assert (factors > 0).all()
    assert factors.max() == pytest.approx(1)


def test_constant_stays_at_the_peak():
    np.testing.assert_array_equal(curve(10, schedule="constant", warmup=1), np.ones(10))


def test_linear_falls_to_the_final_fraction_at_the_last_step():
    factors = curve(14, schedule="linear", warmup=4, final_lr_fraction=0.2)
    expected = [1 - 0.8 * since / 10 for since in range(11)]
    np.testing.assert_allclose(factors[3:], expected, rtol=1e-6)


def test_cosine_is_half_a_cosine_from_the_peak_to_the_final_fraction():
    factors = curve(11, schedule="cosine", final_lr_fraction=0.1)
    expected = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(11)]
    np.testing.assert_allclose(factors, expected, rtol=1e-5)


def test_inverse_sqrt_is_the_law_of_the_transformer_paper():
    factors = curve(40, schedule="inverse_sqrt", warmup=8)
    # Vaswani et al. 2017, equation 3, divided by its peak, with updates counted from 1
    law = [min(n**-0.5, n * 8**-1.5) / 8**-0.5 for n in range(1, 41)]
    np.testing.assert_allclose(factors, law, rtol=1e-6)


def test_wsd_is_stable_then_falls_over_the_last_fraction():
    factors = curve(20, schedule="wsd", warmup=4, decay_fraction=0.25, final_lr_fraction=0.0)
    np.testing.assert_allclose(factors[3:15], np.ones(12))
    np.testing.assert_allclose(factors[14:], [1, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_traced_step_gives_the_same_factor(name):
    factor = schedule(config(schedule=name, warmup=3), 12)
    traced = jax.jit(factor)
    assert [float(traced(step)) for step in range(12)] == pytest.approx(
        [float(factor(step)) for step in range(12)]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_one_step_is_at_the_peak(name):
    assert curve(1, schedule=name, warmup=0).tolist() == [1.0]


@pytest.mark.parametrize("name", NAMES)
def test_only_extendable_schedules_keep_the_steps_taken_when_the_run_grows(name):
    short, long = (curve(n, schedule=name, warmup=2)[:10] for n in (10, 30))
    assert extendable(config(schedule=name)) == np.array_equal(short, long)


def test_a_recipe_warms_up_for_at_most_a_quarter_of_the_run():
    assert recipe_warmup(4000, 100_000) == 4000
    assert recipe_warmup(4000, 600) == 150
    assert recipe_warmup(0, 600) == 0


@pytest.mark.parametrize("name", OptimizerName.__args__)
def test_defaults_of_every_optimizer_are_valid(name):
    OptimConfig(name=name, **optimizer_defaults(name)).validate()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "adamm"}, ["optim.name", "adamm", "did you mean adamw"]),
        ({"schedule": "cosin"}, ["optim.schedule", "did you mean cosine"]),
        ({"lr": 0.0}, ["optim.lr = 0.0", "positive"]),
        ({"lr": -1e-3}, ["optim.lr", "positive"]),
        ({"lr": math.nan}, ["optim.lr", "positive"]),
        ({"lr": math.inf}, ["optim.lr", "finite"]),
        ({"weight_decay": -0.1}, ["optim.weight_decay = -0.1", "0 or more"]),
        ({"beta1": 1.0}, ["optim.beta1 = 1.0", "[0, 1)"]),
        ({"beta2": -0.1}, ["optim.beta2", "[0, 1)"]),
        ({"eps": 0.0}, ["optim.eps", "positive"]),
        ({"warmup": -1}, ["optim.warmup = -1", "0 or more"]),
        ({"warmup": 11}, ["optim.warmup = 11", "10 or fewer"]),
        ({"schedule": "wsd", "warmup": 9}, ["optim.warmup = 9", "8 or fewer"]),
        ({"decay_fraction": 1.5}, ["optim.decay_fraction", "[0, 1]"]),
        ({"final_lr_fraction": -0.5}, ["optim.final_lr_fraction", "[0, 1]"]),
        ({"clip_norm": -1.0}, ["optim.clip_norm", "0 or more"]),
        ({"accumulate": 0}, ["optim.accumulate = 0", "1 micro-batch"]),
        ({"ema": 1.0}, ["optim.ema = 1.0", "(0, 1)"]),
        ({"layer_lr_decay": 0.0}, ["optim.layer_lr_decay", "positive"]),
        ({"layer_lr_decay": 1.1}, ["optim.layer_lr_decay", "(0, 1]"]),
        ({"freeze": ("layers:5-2",)}, ["optim.freeze", "layers:5-2", "w1@0-5"]),
        ({"freeze": ("w1@",)}, ["optim.freeze", "w1@"]),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(fields, words):
    with pytest.raises(ConfigError) as refused:
        OptimConfig(**fields).validate(10)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize("field", ["schedule", "warmup"])
def test_a_schedule_needs_a_resolved_config(field):
    with pytest.raises(ConfigError, match=rf"optim\.{field}"):
        schedule(config(**{field: None}), 10)


def test_freeze_patterns_name_roles_layers_or_both():
    assert parse_freeze("emb") == ("emb", None)
    assert parse_freeze("layers:0-5") == (None, range(6))
    assert parse_freeze("layers:3") == (None, range(3, 4))
    assert parse_freeze("w1@2-4") == ("w1", range(2, 5))
