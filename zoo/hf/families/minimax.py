"""MiniMax-01 (2501.08313): weighted residuals behind the norm, linear attention and experts."""

from __future__ import annotations

from typing import Any

from zoo.hf.families import llama
from zoo.hf.families.llama import ENDS, FIELDS, HEAD_FIELDS, HEADS, LAYER, TIED, classes, sizes
from zoo.hf.families.mistral import alike
from zoo.hf.families.neox import by_head
from zoo.hf.family import Family
from zoo.hf.keys import CannotExpress, Entry, Fixed, Key, Rule, Settings, refused
from zoo.hf.rotary import rotary
from zoo.hf.weights import Map, Tensor, linear, norm
from zoo.hf.windows import whole, windows
from zoo.models.config import shortest_pattern, spread
from zoo.variants.registry import get_variant

_VARIANT = "minimax_post_norm"
# Their name of a kind of layer -> our letter.
_KINDS = {"full_attention": "S", "linear_attention": "L"}
# Our name of a kind of sublayer -> how their keys for it begin.
_PAIRS = {"attention": "full_attn", "linear_attention": "linear_attn", "mlp": "mlp"}


def _residuals() -> Rule:
    """alpha and beta of each kind of sublayer, which are options of the placement."""
    names = {
        ours: (f"{theirs}_alpha_factor", f"{theirs}_beta_factor") for ours, theirs in _PAIRS.items()
    }

    def read(theirs: Settings) -> Settings:
        for name in (name for pair in names.values() for name in pair):
            if isinstance(theirs[name], bool) or not isinstance(theirs[name], int | float):
                raise refused(name, theirs[name], ["a number"])
        pairs = {ours: tuple(float(theirs[name]) for name in pair) for ours, pair in names.items()}
        options = ", ".join(f"{ours}={pair!r}" for ours, pair in pairs.items())
        return {"variant": f"{_VARIANT}({options})"}

    def write(ours: Settings) -> Settings:
        variant = get_variant(ours["variant"])
        if variant.name != _VARIANT:
            raise CannotExpress(f"variant = {ours['variant']!r}: it has {_VARIANT}")
        written: Settings = {}
        for kind, pair in names.items():
            values = variant.values[kind]
            assert isinstance(values, tuple)
            written |= dict(zip(pair, values, strict=True))
        return written

    return Rule({name: 1 for pair in names.values() for name in pair}, read, write)


def _layers() -> Rule:
    """Which layers have which kind of attention; by default every second one is linear."""

    def read(theirs: Settings) -> Settings:
        depth, named = whole(theirs, "num_hidden_layers"), theirs["layer_types"]
        if named is None:
            return {"attention_pattern": shortest_pattern(spread("SL", depth))}
        known = isinstance(named, list) and all(isinstance(name, str) for name in named)
        if not known or len(named) != depth or set(named) - _KINDS.keys():
            raise refused("layer_types", named, [f"{depth} of {list(_KINDS)}"])
        return {"attention_pattern": shortest_pattern("".join(_KINDS[name] for name in named))}

    def write(ours: Settings) -> Settings:
        names = {letter: name for name, letter in _KINDS.items()}
        letters = spread(ours["attention_pattern"], ours["num_layers"])
        return {"layer_types": [names[letter] for letter in letters]}

    return Rule({"layer_types": None, "num_hidden_layers": 32}, read, write)


_SIZES: tuple[Entry, ...] = sizes(
    vocab_size=32000,
    intermediate_size=14336,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    rms_norm_eps=1e-5,
)
_EXPERTS: tuple[Entry, ...] = (
    Key("num_local_experts", "num_experts", 8),
    Key("num_experts_per_tok", "experts_per_token", 2),
)
# Of training: noise and a loss on the router.
IGNORED_KEYS = (
    *llama.IGNORED_KEYS,
    "output_router_logits",
    "router_aux_loss_coef",
    "router_jitter_noise",
)
_FIELDS: dict[str, Any] = FIELDS | {"experts_renormalised": True}


def mixture(layer: str, gate: str = "w1", up: str = "w3", down: str = "w2") -> Map:
    """A router and the experts, each a gated MLP with tensors of its own, by their names."""
    expert = f"{layer}.experts.{{}}"
    return {
        "mlp/branch/router/kernel": Tensor(f"{layer}.gate.weight", transposed=True),
        "mlp/branch/gate": Tensor(f"{expert}.{gate}.weight", transposed=True),
        "mlp/branch/w1": Tensor(f"{expert}.{up}.weight", transposed=True),
        "mlp/branch/w2": Tensor(f"{expert}.{down}.weight", transposed=True),
    }


def fused(
    block: str, gate: str = "w1", up: str = "w3", down: str = "w2"
) -> dict[str, tuple[str, ...]]:
    """The same where all experts of a layer are in two tensors, as transformers 5 computes."""
    ends = {".gate_up_proj": (gate, up), ".down_proj": (down,)}
    return {
        f".mlp.experts{name}": tuple(f".{block}.experts.{{}}.{end}.weight" for end in own)
        for name, own in ends.items()
    }


_RENAMED = ((".mlp.gate.weight", ".block_sparse_moe.gate.weight"),)


_ATTENTION = f"{LAYER}.self_attn"
_WEIGHTS: Map = {
    **ENDS,
    **linear("self_attention/branch/q", f"{_ATTENTION}.q_proj"),
    **linear("self_attention/branch/k", f"{_ATTENTION}.k_proj"),
    **linear("self_attention/branch/v", f"{_ATTENTION}.v_proj"),
    **linear("self_attention/branch/o", f"{_ATTENTION}.o_proj"),
    **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
    **norm("mlp/residual/norm_in", f"{LAYER}.post_attention_layernorm"),
    **mixture(f"{LAYER}.block_sparse_moe"),
}
_LINEAR: Map = {
    **by_head(f"{_ATTENTION}.qkv_proj", kind="linear_attention"),
    **linear("linear_attention/branch/gate", f"{_ATTENTION}.output_gate"),
    **linear("linear_attention/branch/o", f"{_ATTENTION}.out_proj"),
    **norm("linear_attention/branch/norm", f"{_ATTENTION}.norm"),
    **norm("linear_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
}
# Powers of the decay, which are computed here.
_IGNORED = tuple(
    f"{_ATTENTION}.{name}" for name in ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
)

FAMILIES = (
    Family(
        name="minimax",
        classes=classes("MiniMax"),
        fields={name: value for name, value in _FIELDS.items() if name != "variant"},
        keys=(
            *_SIZES,
            *_EXPERTS,
            rotary(theta=1e6),
            _residuals(),
            _layers(),
            Fixed("sliding_window", None),
        ),
        # Rounding alone depends on the size of a block.
        ignored_keys=(*IGNORED_KEYS, "block_size"),
        prefix="model.",
        weights=_WEIGHTS | _LINEAR,
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        ignored=_IGNORED,
        tied=TIED,
        renamed=_RENAMED,
        fused=fused("block_sparse_moe"),
    ),
    Family(
        name="mixtral",
        classes=classes("Mixtral"),
        fields=_FIELDS,
        keys=(
            *_SIZES,
            *_EXPERTS,
            rotary(theta=1e6),
            windows(window=None, layers=alike, listed=False),
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights=_WEIGHTS,
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
        renamed=_RENAMED,
        fused=fused("block_sparse_moe"),
    ),
)
