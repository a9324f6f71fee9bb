"""What a site asks of its branch is what the branch is made with."""

from __future__ import annotations

import pytest
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.models.branches import make_branch
from zoo.models.config import ModelConfig
from zoo.variants.placement import NormSlot, Site

CONFIG = ModelConfig(d_model=8, num_heads=2, num_layers=1)


@pytest.mark.parametrize("sublayer", ["self_attention", "mlp"])
def test_inner_norm_is_as_its_slot_says(sublayer: str) -> None:
    slot = NormSlot(kind="rms_norm", eps=1e-3, bias=False, affine=False)
    branch = nnx.eval_shape(lambda: make_branch(Site(sublayer, inner_norm=slot), CONFIG))
    assert branch.inner_norm.spec == NormSpec("rms_norm", 1e-3, bias=False, affine=False)
    assert "inner_norm" not in weight.split(branch)[0]


@pytest.mark.parametrize("sublayer", ["self_attention", "mlp"])
def test_inner_norm_is_the_architectures_where_its_slot_says_nothing(sublayer: str) -> None:
    branch = nnx.eval_shape(lambda: make_branch(Site(sublayer, inner_norm=NormSlot()), CONFIG))
    assert branch.inner_norm.spec == CONFIG.norm_spec()


def test_factor_inside_a_branch_is_refused_with_what_to_use() -> None:
    with pytest.raises(VariantError, match=r"inner_norm\.scale = 0\.5: .* use its gain"):
        Site("mlp", inner_norm=NormSlot(scale=0.5))
