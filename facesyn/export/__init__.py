"""Models as ONNX graphs beside their weights: which graphs there are, how they are made, how far they may be off."""
