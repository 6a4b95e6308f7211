"""How prompts come about: vocabularies and templates, requests to language models, the screen, the rows."""
