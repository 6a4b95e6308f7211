"""facesyn makes labelled, balanced, training-ready datasets of synthetic faces.

Importing this package loads nothing heavy; see `facesyn.registry` for how backends are reached.
"""

__version__ = "0.1.0"
