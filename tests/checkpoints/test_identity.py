"""Identity: what a checkpoint belongs to is compared, and the first difference named."""

from __future__ import annotations

import copy

import pytest

from zoo.checkpoints import check_identity
from zoo.errors import CheckpointError

IDENTITY = {
    "format_version": 1,
    "placement": {"variant": "deep_norm", "alpha": 2.2, "segments": [[0, 6], [6, 12]]},
    "model": {"num_layers": 12, "bias": True, "window": None},
}


def test_equal_identities_pass_whatever_their_container_or_order():
    wanted = copy.deepcopy(IDENTITY)
    wanted["placement"]["segments"] = ((0, 6), (6, 12))
    wanted["model"] = dict(reversed(list(wanted["model"].items())))
    wanted["model"]["num_layers"] = 12.0
    check_identity(IDENTITY, wanted)
    check_identity({"x": float("nan")}, {"x": float("nan")})


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            ("placement", "variant"),
            "post_norm",
            "checkpoint has placement.variant = 'deep_norm', this run asks for 'post_norm'",
        ),
        (
            ("model", "num_layers"),
            16,
            "checkpoint has model.num_layers = 12, this run asks for 16",
        ),
        (("model", "bias"), 1, "checkpoint has model.bias = True, this run asks for 1"),
        (("model", "window"), 64, "checkpoint has model.window = None, this run asks for 64"),
        (
            ("placement", "segments"),
            [[0, 6], [6, 16]],
            "checkpoint has placement.segments.1.1 = 12, this run asks for 16",
        ),
        (
            ("placement", "segments"),
            [[0, 6]],
            "checkpoint has placement.segments = [[0, 6], [6, 12]], this run asks for [[0, 6]]",
        ),
        (("model", "d_ff"), 64, "checkpoint has no model.d_ff, this run asks for 64"),
    ],
)
def test_the_first_difference_is_named_with_both_values(keys, value, message):
    wanted = copy.deepcopy(IDENTITY)
    wanted[keys[0]][keys[1]] = value
    with pytest.raises(CheckpointError) as refused:
        check_identity(IDENTITY, wanted)
    assert str(refused.value) == message


def test_a_setting_that_only_the_checkpoint_has_is_a_difference():
    wanted = copy.deepcopy(IDENTITY)
    del wanted["placement"]["alpha"]
    with pytest.raises(CheckpointError, match=r"placement\.alpha = 2\.2, .* no such setting"):
        check_identity(IDENTITY, wanted)
