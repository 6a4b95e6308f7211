"""What enters a dataset: measured figures, limits, verdicts. Called by stages and builds; knows nothing of them."""
