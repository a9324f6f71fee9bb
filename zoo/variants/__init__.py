"""Where norms go: variants, their laws, and the one place that applies them."""
