"""What a family of the Hugging Face library is to us: a table of keys and a map of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from zoo.errors import CheckpointError, choices
from zoo.hf.keys import Entry, Settings, read_keys, write_keys
from zoo.hf.weights import Map
from zoo.models.config import Head, ModelConfig


def class_head(config: ModelConfig) -> Head:
    """The head of the class that a model is of there: a sentence encoder is a bare trunk."""
    head = config.head or "none"
    return "none" if head == "sentence_embedding" else head


@dataclasses.dataclass(frozen=True)
class ByTensor:
    """A field of `ModelConfig` that no key says: one value where a tensor is there, else another.

    Attributes:
        head: with which this holds.
        tensor: as it is called under that head.
        there, missing: values; `...`: what the keys say.
    """

    head: Head
    tensor: str
    field: str
    there: Any
    missing: Any

    def value(self, found: bool) -> Any:
        return self.there if found else self.missing


@dataclasses.dataclass(frozen=True)
class Where:
    """The weights of models in which a field of `ModelConfig` has a value."""

    field: str
    value: Any
    weights: Map


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
        name: the `model_type` of its `config.json`, where that is not given.
        classes: name of a model class -> the head that it has, the usual class of a head first.
        fields: of `ModelConfig` that are the same for the whole family.
        keys: what `config.json` says about the others.
        ignored_keys: of `config.json`, which change nothing that is computed.
        prefix: of the trunk's tensors in files of a model with a head; a bare trunk has none.
        weights: the trunk's, without the prefix.
        heads: the weights of each head, under their full names.
        head_fields: of `ModelConfig`, beside the head itself.
        head_keys: what `config.json` says about models with a head; with another head, nothing.
        by_tensor: fields that depend on whether the file holds a tensor.
        ignored: names of tensors that are no weights of the model, such as buffers; `{}` stands
            for a layer, and a name that ends in a dot for all that begins with it.
        sines: names of tables of sinusoidal positions, which are computed here.
        tied: a tensor that is another one again, by its name -> that one's, which may be tied
            itself.
        where: weights that a choice adds or gives other names.
        parts: the trunk's weights of parts that there are as many of as a config says.
        renamed: (end of a name, its modern form), for files of old versions.
        fused: end of a name -> ends of the tensors that it holds side by side, of every expert
            (`{}`), for files that keep all experts of a layer in one tensor.
        model_type: of several families that have the same, told apart by their classes.
    """

    name: str
    classes: Mapping[str, Head]
    fields: Settings
    keys: tuple[Entry, ...]
    weights: Map
    heads: Mapping[Any, Map]
    prefix: str = ""
    ignored_keys: tuple[str, ...] = ()
    head_fields: Mapping[Head, Settings] = dataclasses.field(default_factory=dict)
    head_keys: Mapping[Head, tuple[Entry, ...]] = dataclasses.field(default_factory=dict)
    by_tensor: tuple[ByTensor, ...] = ()
    ignored: tuple[str, ...] = ()
    sines: tuple[str, ...] = ()
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    where: tuple[Where, ...] = ()
    parts: Callable[[ModelConfig], Map] | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    fused: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    model_type: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_type", self.model_type or self.name)

    def head(self, config: Mapping[str, Any]) -> Head:
        """The head of the class that wrote a `config.json`; `none` where none is named."""
        named = config.get("architectures") or []
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise CheckpointError(f"config.json: architectures = {named!r}; use a list of names")
        known = self.named_heads(config)
        if known:
            return known[0]
        if named:
            raise CheckpointError(
                f"config.json: architectures = {named!r} is not supported; use "
                f"{choices(self.classes)}, or load with head='none'"
            )
        return "none"

    def named_heads(self, config: Mapping[str, Any]) -> list[Head]:
        """The heads of the classes that a `config.json` names, of those that are known."""
        named = config.get("architectures")
        names = [each for each in named if isinstance(each, str)] if isinstance(named, list) else []
        return [self.classes[name] for name in names if name in self.classes]

    def names(self, config: ModelConfig) -> Map:
        """The map of a resolved config's weights."""
        own = {**self.weights, **self.heads.get(config.head or "none", {})}
        own |= {} if self.parts is None else self.parts(config)
        for each in self.where:
            if getattr(config, each.field) == each.value:
                own |= each.weights
        return own

    def told(self, head: Head, tensors: Collection[str]) -> Settings:
        """Fields of `ModelConfig` that the names of a file's tensors tell."""
        own = [each for each in self.by_tensor if each.head == head]
        told = {each.field: each.value(each.tensor in tensors) for each in own}
        return {field: value for field, value in told.items() if value is not ...}

    def read(
        self, config: Mapping[str, Any], *, head: Head | None = None, ignore: tuple[str, ...] = ()
    ) -> Settings:
        """Fields of `ModelConfig`, with those of a head where one is given.

        Raises:
            CheckpointError: on a key that is missing, unknown or has an unsupported value.
        """
        entries = (*self.keys, *self._of_head(head))
        others = [name for own in self.head_keys.values() for key in own for name in key.defaults()]
        own = {} if head is None else self.head_fields.get(head, {})
        known = (*self.ignored_keys, *others, *ignore)
        return self.fields | read_keys(entries, config, known) | own

    def _of_head(self, head: Head | None) -> tuple[Entry, ...]:
        return () if head is None else self.head_keys.get(head, ())

    def write(self, config: ModelConfig) -> Settings:
        """`config.json` of a resolved config.

        Raises:
            CannotExpress: where the family has no words for a setting.
        """
        head = class_head(config)
        names = [name for name, own in self.classes.items() if own == head]
        fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        written = write_keys((*self.keys, *self._of_head(head)), fields)
        return {"model_type": self.model_type, "architectures": names[:1]} | written
