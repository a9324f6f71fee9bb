"""The learning rate over a run, as a factor of its peak."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from zoo.errors import ConfigError
from zoo.training.optim_config import OptimConfig, wsd_decay_steps

Step = int | jax.Array
Schedule = Callable[[Step], jax.Array]


def schedule(config: OptimConfig, steps: int) -> Schedule:
    """The factor in [0, 1] of the peak learning rate at each step.

    Steps count from 0 at the first update. A warm-up of w steps gives step s the factor
    (s + 1) / w: the first update moves, and step w - 1 is the first at the peak. From there

    - constant stays at 1;
    - linear, cosine fall to `final_lr_fraction` at the last step, steps - 1;
    - inverse_sqrt is sqrt(w / (s + 1)) (Vaswani et al. 2017, equation 3);
    - wsd stays at 1, then falls linearly to `final_lr_fraction` over the last
      `decay_fraction` of the run (Hu et al. 2024, MiniCPM).

    Args:
        config: with `schedule` and `warmup` filled in.
        steps: length of the run.

    Returns:
        A function of a step (an int or a traced integer), usable inside jit.

    Raises:
        ConfigError: when warm-up or decay do not fit the run, or a field is None.
    """
    config.validate(steps)
    if config.warmup is None or config.schedule is None:
        field = "warmup" if config.warmup is None else "schedule"
        raise ConfigError(f"optim.{field} = None: resolve the config before building a schedule")
    peak = max(config.warmup - 1, 0)
    after = _after_warmup(config, steps, warmup=config.warmup, length=steps - 1 - peak)
    if peak == 0:
        return after
    rise = optax.linear_schedule(1 / config.warmup, 1.0, peak)
    joined: Schedule = optax.join_schedules([rise, after], [peak])
    return joined


def _after_warmup(config: OptimConfig, steps: int, *, warmup: int, length: int) -> Schedule:
    """The factor by steps since the peak, which is step 0; `length` is the last one."""
    length = max(length, 1)  # a run that ends at its peak has nothing left to divide
    final = config.final_lr_fraction
    if config.schedule == "linear":
        linear: Schedule = optax.linear_schedule(1.0, final, length)
        return linear
    if config.schedule == "cosine":
        cosine: Schedule = optax.cosine_decay_schedule(1.0, length, alpha=final)
        return cosine
    if config.schedule == "inverse_sqrt":
        first = max(warmup, 1)
        return lambda step: jnp.sqrt(first / (first + jnp.asarray(step, jnp.float32)))
    decay = wsd_decay_steps(config, steps) if config.schedule == "wsd" else 0
    decay = min(decay, length)
    if decay == 0:
        return lambda step: jnp.ones((), jnp.float32)
    fall = optax.linear_schedule(1.0, final, decay)
    stable: Schedule = optax.join_schedules([optax.constant_schedule(1.0), fall], [length - decay])
    return stable


def extendable(config: OptimConfig) -> bool:
    """Whether a run may be given more steps without changing the ones already taken."""
    return config.schedule in ("constant", "inverse_sqrt")


def recipe_warmup(paper_steps: int, steps: int) -> int:
    """A recipe's warm-up in a run of `steps`: the paper's, at most a quarter of the run."""
    return min(paper_steps, steps // 4)
