"""Write what transformers' rules and beam search give, for tests that run without torch.

    python scripts/goldens_decoding.py

Needs `pip install -e '.[parity]'`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _hf_reference import make

from tests.decoding.cases import (
    BEGIN,
    ENDS,
    GOLDENS,
    INDEX,
    NEW,
    PAD,
    RULES,
    SEARCHES,
    STOPS,
    Search,
    step,
)
from tests.hf.cases import all_cases, prompt


def ruled(model: Any, settings: dict[str, Any]) -> np.ndarray:
    """The scores that a token is drawn with, after every rule in transformers' order."""
    import torch
    from transformers import GenerationConfig

    logits, tokens, seen = step()
    config = GenerationConfig(
        **({"top_k": None} | settings), do_sample=True, eos_token_id=list(STOPS)
    )
    config._eos_token_tensor = torch.tensor(STOPS)
    processors = model._get_logits_processor(
        config,
        input_ids_seq_length=BEGIN,
        device="cpu",
        model_kwargs={"attention_mask": torch.from_numpy(seen[:, :INDEX]).long()},
    )
    written = torch.from_numpy(tokens[:, :INDEX]).long()
    return processors(written, torch.from_numpy(logits)).numpy()


def searched(search: Search) -> np.ndarray:
    """The best beam's tokens, filled with the padding to the longest text."""
    import torch

    case = all_cases()[search.case]
    model = make(case)
    given = {name: torch.from_numpy(array).long() for name, array in prompt(case).items()}
    made = model.generate(
        **given,
        **search.settings,
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=ENDS,
        pad_token_id=PAD,
    ).numpy()
    start = 1 if case.takes == "pairs" else given["input_ids"].shape[1]
    filled = np.full((len(made), start + NEW), PAD, np.int32)
    filled[:, : made.shape[1]] = made
    return filled


def main() -> None:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = make(all_cases()["gpt2"])
    goldens = {f"rules/{name}": ruled(model, theirs) for name, (theirs, _) in RULES.items()}
    goldens |= {f"beams/{name}": searched(search) for name, search in SEARCHES.items()}
    np.savez_compressed(GOLDENS, **goldens)
    for name, search in SEARCHES.items():
        print(name, search.settings, goldens[f"beams/{name}"].tolist())


if __name__ == "__main__":
    main()
