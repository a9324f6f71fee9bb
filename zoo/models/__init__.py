"""Architectures: one stack of sublayers, whatever the placement."""
