"""Style references and edge maps from 3D heads: no photograph, and every label exact. See README.md in this folder."""
