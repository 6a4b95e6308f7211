"""Datasets in the formats that trainers read, one into the other without touching a picture. Makes none."""
