"""Measures of what was generated and transferred. Called by stages; knows nothing of them."""
