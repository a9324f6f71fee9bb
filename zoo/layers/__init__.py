"""Norms, attention, MLP, positions, embeddings: parts that know no variant."""
