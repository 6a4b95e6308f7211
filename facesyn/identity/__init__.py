"""Who is in a picture: crops, embeddings, landmarks. Knows nothing of generation or datasets."""
