"""A look into a model: what flows through each sublayer, what its weights receive and do."""
