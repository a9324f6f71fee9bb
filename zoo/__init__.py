"""Postnorm Zoo: every norm placement, on every Transformer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that has it; loaded on first use so that `import zoo` stays light.
_HOMES = {
    "ZooError": "zoo.errors",
    "ModelConfig": "zoo.models.config",
    "create_model": "zoo.models.presets",
    "list_models": "zoo.models.presets",
    "profile": "zoo.models.profile",
    "resize_vocabulary": "zoo.models.vocabulary",
    "Variant": "zoo.variants.variant",
    "Placement": "zoo.variants.placement",
    "Residual": "zoo.variants.residual",
    "ResidualStack": "zoo.variants.residual",
    "init_gain": "zoo.variants.residual",
    "audit": "zoo.variants.audit",
    "describe": "zoo.variants.describe",
    "get_variant": "zoo.variants.registry",
    "list_variants": "zoo.variants.registry",
    "register_variant": "zoo.variants.registry",
    "generate": "zoo.decoding",
    "Sampling": "zoo.decoding",
    "load_pretrained": "zoo.hf.pretrained",
    "save_pretrained": "zoo.hf.export",
    "list_families": "zoo.hf.families",
    "load_tokenizer": "zoo.data.tokenizers",
    "TrainConfig": "zoo.training.config",
    "train": "zoo.training.loop",
    "export": "zoo.training.export",
    "change_variant": "zoo.evaluation.surgery",
    "verify": "zoo.evaluation.verify",
    "diagnose": "zoo.diagnosis.measure",
    "features": "zoo.diagnosis.features",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from zoo.data.tokenizers import load_tokenizer as load_tokenizer
    from zoo.decoding import Sampling as Sampling
    from zoo.decoding import generate as generate
    from zoo.diagnosis.features import features as features
    from zoo.diagnosis.measure import diagnose as diagnose
    from zoo.errors import ZooError as ZooError
    from zoo.evaluation.surgery import change_variant as change_variant
    from zoo.evaluation.verify import verify as verify
    from zoo.hf.export import save_pretrained as save_pretrained
    from zoo.hf.families import list_families as list_families
    from zoo.hf.pretrained import load_pretrained as load_pretrained
    from zoo.models.config import ModelConfig as ModelConfig
    from zoo.models.presets import create_model as create_model
    from zoo.models.presets import list_models as list_models
    from zoo.models.profile import profile as profile
    from zoo.models.vocabulary import resize_vocabulary as resize_vocabulary
    from zoo.training.config import TrainConfig as TrainConfig
    from zoo.training.export import export as export
    from zoo.training.loop import train as train
    from zoo.variants.audit import audit as audit
    from zoo.variants.describe import describe as describe
    from zoo.variants.placement import Placement as Placement
    from zoo.variants.registry import get_variant as get_variant
    from zoo.variants.registry import list_variants as list_variants
    from zoo.variants.registry import register_variant as register_variant
    from zoo.variants.residual import Residual as Residual
    from zoo.variants.residual import ResidualStack as ResidualStack
    from zoo.variants.residual import init_gain as init_gain
    from zoo.variants.variant import Variant as Variant


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
