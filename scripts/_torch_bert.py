"""The other side of bench_bert.py; runs where torch and transformers are installed.

    python scripts/_torch_bert.py steps FOLDER BATCH LENGTH
    python scripts/_torch_bert.py load FOLDER

`steps` prints `versions {...}`, then answers each line `forward` or `train` on standard input with
the seconds that one pass, or one AdamW step on every token, took. `load` loads once and prints what
it took as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata

from _memory import Growth


def sides(folder: str, batch: int, length: int) -> dict[str, Callable[[], object]]:
    import torch
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, weight_decay=0.01, betas=(0.9, 0.999), fused=True
    )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (batch, length), generator=generator)

    def forward() -> object:
        model.eval()
        with torch.inference_mode():
            return model(input_ids=ids).logits

    def train() -> object:
        model.train()
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"forward": forward, "train": train}


def answer(folder: str, batch: int, length: int) -> None:
    import torch

    torch.set_num_threads(2)
    made = sides(folder, batch, length)
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    print("versions", json.dumps(versions), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        made[line.strip()]()
        print(time.perf_counter() - start, flush=True)


def load(folder: str) -> None:
    from transformers import BertForMaskedLM

    with Growth() as growth:
        start = time.perf_counter()
        model = BertForMaskedLM.from_pretrained(folder)
        # A file that is mapped into memory is read only when its numbers are asked for.
        total = float(sum(parameter.sum() for parameter in model.parameters()))
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "growth": growth.bytes, "total": total}))


if __name__ == "__main__":
    mode, folder, *sizes = sys.argv[1:]
    load(folder) if mode == "load" else answer(folder, *map(int, sizes))
