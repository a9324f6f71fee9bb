"""Values are held against the annotations of their fields, whoever made the config."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import pytest

import zoo
from zoo.errors import ConfigError
from zoo.layers.norms import NormSpec
from zoo.settings import check_types, flatten


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 3
    rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    shown: bool = True
    name: str = "a"
    kind: Literal["one_way", "other"] = "one_way"
    open_kind: Literal["one_way", "other"] | None = None
    names: tuple[str, ...] = ()
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    "config",
    [
        Outer(),
        Outer(open_kind="other", names=("a", "b")),
        Outer(inner=Inner(rate=1)),
        Outer(inner=Inner(depth=np.int64(4), rate=np.float32(0.5))),  # type: ignore[arg-type]
    ],
)
def test_what_the_annotation_allows_passes(config: Outer) -> None:
    check_types(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Outer(shown=1), "x.shown = 1: use True or False"),
        (Outer(name=3), "x.name = 3: use text"),
        (Outer(name=None), "x.name = None: use text"),
        (
            Outer(kind="oneway"),
            "x.kind = 'oneway' is not known (did you mean one_way?); use one_way or other",
        ),
        (Outer(kind=None), "x.kind = None: use one_way or other"),
        (Outer(kind=["one_way"]), "x.kind = ['one_way']: use one_way or other"),
        (Outer(open_kind="zzz"), "x.open_kind = 'zzz' is not known; use one_way, other or None"),
        (Outer(names="a"), "x.names = 'a': use a tuple, each entry text"),
        (Outer(names=("a", 1)), "x.names = ('a', 1): use a tuple, each entry text"),
        (Outer(inner=Inner(depth="4")), "x.inner.depth = '4': use a whole number"),
        (Outer(inner=Inner(depth=4.0)), "x.inner.depth = 4.0: use a whole number"),
        (Outer(inner=Inner(depth=True)), "x.inner.depth = True: use a whole number"),
        (Outer(inner=Inner(depth=None)), "x.inner.depth = None: use a whole number"),
        (Outer(inner=Inner(rate="fast")), "x.inner.rate = 'fast': use a number or None"),
        (Outer(inner=Inner(rate=False)), "x.inner.rate = False: use a number or None"),
        (Outer(inner="deep"), "x.inner = 'deep': use an instance of Inner"),
    ],
    ids=str,
)
def test_another_value_is_refused_with_what_is_accepted(config: Outer, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_types(config, "x.")
    assert str(refused.value) == message


def test_a_config_and_the_mapping_it_is_saved_as_flatten_alike() -> None:
    config = Outer(inner=Inner(rate=0.5))
    assert flatten(config)["inner.rate"] == 0.5
    assert flatten(config) == flatten(dataclasses.asdict(config))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "layernorm"}, r"norm.kind = 'layernorm' .*did you mean layer_norm"),
        ({"eps": "small"}, r"norm.eps = 'small': use a number"),
        ({"eps": 0.0}, r"norm.eps = 0.0: must be above 0"),
    ],
)
def test_a_norm_of_an_unknown_kind_is_refused_where_it_is_made(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        NormSpec(**fields)


def test_a_residual_refuses_an_unknown_norm() -> None:
    with pytest.raises(ConfigError, match="did you mean layer_norm"):
        zoo.Residual("post_norm", num_layers=2, d_model=4, norm="layernorm")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "positions",
            "rotory",
            "(did you mean rotary?); use learned, sinusoidal, sinusoidal_halves, "
            "sinusoidal_fairseq, rotary or none",
        ),
        ("norm", "layernorm", "(did you mean layer_norm, "),
        ("dtype", "float16", "use float32 or bfloat16"),
        ("init", "kaiming", "use xavier_normal, xavier_uniform or normal"),
        ("num_layers", "4", "use a whole number"),
        ("bias", 1, "use True or False"),
    ],
)
def test_create_model_refuses_it_under_the_bare_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        zoo.create_model("decoder-tiny", **{field: value})
    assert str(refused.value).startswith(f"{field} = {value!r}")
    assert message in str(refused.value)
