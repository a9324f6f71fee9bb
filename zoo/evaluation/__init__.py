"""What a checkpoint is worth: against another implementation, on text, on pairs of sentences."""
