"""Training of the autoencoder, UFG, ATD, recogniser and landmarker on rendered faces with exact labels."""
