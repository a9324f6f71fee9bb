"""Variants against each other on equal terms: plan, runs, choices, statistics, report."""
