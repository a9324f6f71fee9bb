"""The other side of bench_generate.py; runs where torch and transformers are installed.

    python scripts/_torch_generate.py write FOLDER CONFIG
    python scripts/_torch_generate.py steps FOLDER TOKENS BATCH PROMPT NEW

`write` makes a GPT-2 of a config (JSON) with random weights. `steps` writes its greedy tokens to
the file TOKENS as JSON, prints `versions {...}`, and answers each line `generate` on standard
input with the seconds that such a call took.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path


def write(folder: str, config: str) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**json.loads(config))).save_pretrained(folder)


def answer(folder: str, file: str, batch: int, prompt: int, new: int) -> None:
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(2)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.tensor(json.loads(Path(f"{folder}/prompt.json").read_text()))[:batch, :prompt]

    def generate() -> torch.Tensor:
        with torch.inference_mode():
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )

    Path(file).write_text(json.dumps(generate().tolist()))
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    print("versions", json.dumps(versions), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        generate()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    mode, *words = sys.argv[1:]
    if mode == "write":
        write(*words)
    else:
        folder, file, *sizes = words
        answer(folder, file, *map(int, sizes))
