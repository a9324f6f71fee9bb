"""A tokenizer.json with BERT's special tokens, for checkpoints of the tests."""

from __future__ import annotations

from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_tokenizer(folder: Path, *, size: int = 48) -> Path:
    """`tokenizer.json` of `size` words: the special ones, letters, then numbers."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(exist_ok=True)
    words = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz"]
    words += [str(number) for number in range(size - len(words))]
    known = {word: index for index, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, known[word]) for word in ("[CLS]", "[SEP]")],
    )
    made.save(str(folder / "tokenizer.json"))
    return folder
