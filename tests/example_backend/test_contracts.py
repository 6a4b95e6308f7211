"""The promises of both roles, checked by the suites that facesyn ships."""

from facesyn_sketch import PlainWriter, SketchGenerator

from facesyn.testing import FaceGeneratorContract, PromptWriterContract


class TestPlainWriter(PromptWriterContract):
    def make(self) -> PlainWriter:
        return PlainWriter()


class TestSketchGenerator(FaceGeneratorContract):
    def make(self) -> SketchGenerator:
        return SketchGenerator()
