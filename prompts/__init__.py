"""Templates and vocabularies of the prompts, as package data; there is no code here."""
