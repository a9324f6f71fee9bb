"""Every family against the installed transformers: in, and out again."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.hf.cases import NEW_TOKENS, all_cases, prompt
from tests.hf.test_families import TOLERANCE, call, kept
from zoo.hf.families import families, family_of
from zoo.models.config import HEADS, ModelConfig
from zoo.models.resolve import resolve

pytest.importorskip("transformers")
CASES = all_cases()


@pytest.mark.parametrize("name", CASES)
def test_in_and_out_again(name: str, tmp_path: Path) -> None:
    import transformers
    from _hf_reference import make, run

    case = CASES[name]
    theirs = make(case)
    theirs.save_pretrained(tmp_path / "theirs")
    expected = run(theirs, case)

    ours = zoo.load_pretrained(tmp_path / "theirs")
    np.testing.assert_allclose(
        kept(case, call(ours, case)),
        kept(case, expected["output"]),
        atol=TOLERANCE,
        rtol=TOLERANCE,
    )
    if case.generates:
        given = prompt(case)
        written = zoo.generate(
            ours,
            given["input_ids"],
            given["attention_mask"],
            max_new_tokens=NEW_TOKENS,
            eos_id=(),
        )
        np.testing.assert_array_equal(written, expected["tokens"])

    zoo.save_pretrained(ours, tmp_path / "ours")
    cls = getattr(transformers, case.cls)
    again, report = cls.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    family = family_of({**theirs.config.to_dict(), "architectures": [case.cls]})
    missing = {name.removeprefix(family.prefix) for name in report.pop("missing_keys")}
    # An untied head leaves what it is tied to otherwise without a use; sines and decays are
    # computed again.
    spared = [
        name.replace("{}", "*") for name in (*family.tied.values(), *family.sines, *family.ignored)
    ]
    assert not [name for name in missing if not any(fnmatch(name, each) for each in spared)]
    assert not any(report.values()), report
    # That the weights are the same bit by bit is held without torch, whose sums depend in the
    # last bit on where its memory lies.
    np.testing.assert_allclose(
        run(again.eval(), case)["output"], expected["output"], atol=1e-6, rtol=1e-6
    )


# The entries of T5's kin with the encoder alone share a `model_type`.
@pytest.mark.parametrize("name", [name for name in families() if not name.endswith("_encoder")])
def test_a_key_that_is_missing_means_what_it_means_to_transformers(name: str) -> None:
    from transformers import CONFIG_MAPPING

    family = families()[name]
    written = CONFIG_MAPPING[name]().to_dict()
    carried = HEADS[resolve(ModelConfig(**family.read({}), head="none")).architecture]
    for head in ("none", *(head for head in family.head_keys if head in carried)):
        made = [
            resolve(ModelConfig(**family.read(said, head=head), head=head))
            for said in ({}, written)
        ]
        assert made[0] == made[1]
