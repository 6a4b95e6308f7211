"""The stages that turn rows into pictures, each into a folder of its own: generation and transfer."""
