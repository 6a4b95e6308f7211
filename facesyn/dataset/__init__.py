"""From a recipe to a dataset on disk: plan, shards, resume, contact sheet."""
