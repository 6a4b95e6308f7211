"""Contract suites that every backend, in-tree or foreign, is tested with.

Subclass one in a test module, name the subclass `Test…`, and let `make` return a fresh backend:

    class TestMyWriter(PromptWriterContract):
        def make(self):
            return MyWriter()
"""

from facesyn.testing.contracts import (
    AttributeClassifierContract,
    AttributeTransferContract,
    ExecutorContract,
    FaceDetectorContract,
    FaceEncoderContract,
    FaceGeneratorContract,
    PromptWriterContract,
    RendererContract,
)
from facesyn.testing.samples import drawn_edges, drawn_face

__all__ = [
    "AttributeClassifierContract",
    "AttributeTransferContract",
    "ExecutorContract",
    "FaceDetectorContract",
    "FaceEncoderContract",
    "FaceGeneratorContract",
    "PromptWriterContract",
    "RendererContract",
    "drawn_edges",
    "drawn_face",
]
