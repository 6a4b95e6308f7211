"""Training recognisers on folders of people, by protocols that make datasets comparable. Knows no generator."""
