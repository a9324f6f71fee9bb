"""The other side of bench_step.py's x-transformers rows; runs where torch is installed.

    python scripts/_x_transformers.py D_MODEL LAYERS HEADS BATCH LENGTH

Prints `versions {...}`, then answers each line `plain` or `flash` on standard input with the
seconds that one AdamW step of that form took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata


def make_step(
    d_model: int, layers: int, heads: int, batch: int, length: int, *, flash: bool
) -> Callable[[], float]:
    """A pre-norm decoder with tied embeddings; the step clips at norm 1 and returns its loss."""
    import torch
    from x_transformers import Decoder, TransformerWrapper

    torch.manual_seed(0)
    model = TransformerWrapper(
        num_tokens=256,
        max_seq_len=512,
        tie_embedding=True,
        attn_layers=Decoder(
            dim=d_model, depth=layers, heads=heads, attn_dim_head=d_model // heads, attn_flash=flash
        ),
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=True
    )
    ids = torch.randint(0, 256, (batch, length))
    targets = ids.roll(-1, 1).flatten()

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    import torch

    torch.set_num_threads(2)
    sizes = [int(argument) for argument in sys.argv[1:]]
    steps = {form: make_step(*sizes, flash=form == "flash") for form in ("plain", "flash")}
    versions = {name: metadata.version(name) for name in ("torch", "x-transformers")}
    print("versions", json.dumps(versions), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        steps[line.strip()]()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
