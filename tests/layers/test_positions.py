"""Rotary and sinusoidal positions against their closed forms."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers.positions import RotaryScaling, rotary_tables, rotate, sinusoidal

HEAD_DIM, THETA = 8, 10000.0


def turned(x: np.ndarray, position: int) -> np.ndarray:
    tables = rotary_tables(jnp.asarray([[position]], jnp.int32), HEAD_DIM, THETA)
    return np.asarray(rotate(jnp.asarray(x)[None, None, None], tables))[0, 0, 0]


def test_rotary_turns_half_split_pairs_by_the_position() -> None:
    x = np.random.default_rng(0).normal(size=HEAD_DIM).astype(np.float32)
    half = HEAD_DIM // 2
    for position in (0, 1, 17):
        want = [
            complex(x[i], x[i + half])
            * complex(
                math.cos(position * THETA ** (-2 * i / HEAD_DIM)),
                math.sin(position * THETA ** (-2 * i / HEAD_DIM)),
            )
            for i in range(half)
        ]
        got = turned(x, position)
        np.testing.assert_allclose(got[:half], [z.real for z in want], atol=2e-6)
        np.testing.assert_allclose(got[half:], [z.imag for z in want], atol=2e-6)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    rng = np.random.default_rng(1)
    q, k = rng.normal(size=(2, HEAD_DIM)).astype(np.float32)
    near, far = (turned(q, p + 5) @ turned(k, p) for p in (2, 300))
    np.testing.assert_allclose(near, far, atol=2e-4)  # float32 angles near 300
    assert abs(near - turned(q, 9) @ turned(k, 2)) > 1e-3


def test_rotary_keeps_length_and_dtype() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, HEAD_DIM))
    tables = rotary_tables(jnp.arange(4, dtype=jnp.int32)[None], HEAD_DIM, THETA)
    y = rotate(x, tables)
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    assert rotate(x.astype(jnp.bfloat16), tables).dtype == jnp.bfloat16


def test_sinusoidal_positions_interleave_sine_and_cosine() -> None:
    table = np.asarray(sinusoidal(jnp.asarray([[0, 3, 50]], jnp.int32), 6))[0]
    for row, position in zip(table, (0, 3, 50), strict=True):
        want = []
        for j in range(3):
            angle = position / 10000 ** (2 * j / 6)
            want += [math.sin(angle), math.cos(angle)]
        np.testing.assert_allclose(row, want, atol=5e-6)


def test_sines_of_fairseq_reach_the_slowest_wave_and_spare_padding() -> None:
    places = (0, 3, 50, 1)
    table = np.asarray(sinusoidal(jnp.asarray([places]), 8, "sinusoidal_fairseq", first=2))[0]
    for row, position in zip(table[:3], places, strict=False):
        angles = [position / 10000 ** (j / 3) for j in range(4)]
        want = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        np.testing.assert_allclose(row, want, atol=5e-6)
    assert not table[3].any()


def test_linear_scaling_is_that_of_the_positions() -> None:
    near = rotary_tables(jnp.asarray([[0, 3, 7]], jnp.int32), HEAD_DIM, THETA)
    scaling = RotaryScaling("linear", factor=4.0)
    far = rotary_tables(jnp.asarray([[0, 12, 28]], jnp.int32), HEAD_DIM, THETA, scaling=scaling)
    np.testing.assert_allclose(far.sin, near.sin, atol=1e-6)


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_scaling_keeps_fast_turns_and_divides_slow_ones(kind: Literal["llama3", "yarn"]) -> None:
    frequencies = THETA ** (-np.arange(32) / 32)
    turns = 1024 * frequencies / (2 * math.pi)
    scaling = RotaryScaling(kind, factor=8.0, length=1024, slow=2.0, fast=16.0)
    share = np.asarray(scaling.scaled(jnp.asarray(frequencies), THETA)) / frequencies
    np.testing.assert_allclose(share[turns > 17 * 1.4], 1.0, rtol=1e-6)
    np.testing.assert_allclose(share[turns < 2 / 1.4], 1 / 8, rtol=1e-6)
    between = share[(turns > 2) & (turns < 16)]
    assert len(between) > 3
    assert (np.diff(between) < 0).all()
    assert ((between > 1 / 8) & (between < 1)).all()
