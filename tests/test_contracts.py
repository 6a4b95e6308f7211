"""In-tree backends keep the promises of their roles; the template writer's are in test_prompts.py."""

from functools import cache
from typing import Any

from facesyn.registry import Role, create
from facesyn.testing import (
    AttributeTransferContract,
    ExecutorContract,
    FaceEncoderContract,
    FaceGeneratorContract,
)


@cache
def generator() -> Any:
    return create(Role.GENERATOR, "diffusers", {"steps": 3})


@cache
def transfer() -> Any:
    return create(Role.TRANSFER, "diffusers", {"steps": 3})


@cache
def encoder() -> Any:
    return create(Role.ENCODER, "mini")


class TestDiffusersGenerator(FaceGeneratorContract):
    def make(self) -> Any:
        return generator()


class TestDiffusersTransfer(AttributeTransferContract):
    def make(self) -> Any:
        return transfer()


class TestMiniEncoder(FaceEncoderContract):
    def make(self) -> Any:
        return encoder()


class TestMiniJudge(FaceEncoderContract):
    def make(self) -> Any:
        return create(Role.ENCODER, "mini-judge")


class TestLocalExecutor(ExecutorContract):
    def make(self) -> Any:
        return create(Role.EXECUTOR, "local")
