"""Rasterises with OpenGL through moderngl, without a window: on a GPU's driver or on Mesa's software one.

Knows no head.
"""

import os
from typing import Any

import numpy as np
import torch

from facesyn.errors import BackendError
from facesyn.protocols import Layers

_VERTEX = """
#version 330
in vec3 position; uniform mat4 matrix;
void main() { gl_Position = matrix * vec4(position, 1.0); }
"""
_FRAGMENT = """
#version 330
out int triangle;
void main() { triangle = gl_PrimitiveID; }
"""
# Depths are kept with 24 bits; two of their steps are taken for the same surface.
_BEHIND = """
#version 330
uniform sampler2D nearer; out int triangle;
void main() {
  if (gl_FragCoord.z <= texelFetch(nearer, ivec2(gl_FragCoord.xy), 0).r + 1.2e-7) discard;
  triangle = gl_PrimitiveID;
}
"""
_HINT = "On Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri."


class ModernGLRenderer:
    """One OpenGL context; not to be shared between threads, nor by processes that were forked."""

    device = "cpu"

    def __init__(self) -> None:
        # Pictures are shared out among processes; Mesa's own threads would only fight over the same cores.
        os.environ.setdefault("LP_NUM_THREADS", "1")
        self._gl = _context()
        self._nearest = self._gl.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._behind = self._gl.program(vertex_shader=_VERTEX, fragment_shader=_BEHIND)
        self._targets: dict[int, tuple[Any, list[Any], list[Any]]] = {}

    @classmethod
    def why_unavailable(cls) -> str | None:
        try:
            _context().release()
        except BackendError as error:
            return f"{error} {_HINT}"
        return None

    def rasterise(
        self, positions: torch.Tensor, triangles: torch.Tensor, matrix: torch.Tensor, size: int, layers: int = 1
    ) -> Layers:
        """See `facesyn.protocols.Renderer`. Later layers are peeled off one by one (Everitt 2001)."""
        import moderngl

        colour, depths, framebuffers = self._target(size)
        vertices = self._gl.buffer(np.ascontiguousarray(positions.numpy(), np.float32).tobytes())
        indices = self._gl.buffer(np.ascontiguousarray(triangles.numpy(), np.int32).tobytes())
        columns = np.ascontiguousarray(matrix.numpy().T, np.float32).tobytes()
        found: list[np.ndarray] = []
        behind: list[np.ndarray] = []
        self._gl.enable_only(moderngl.DEPTH_TEST)
        for layer in range(layers):
            program = self._behind if layer else self._nearest
            program["matrix"].write(columns)
            framebuffer = framebuffers[layer % 2]
            framebuffer.use()
            framebuffer.clear(-1, depth=1.0)
            if layer:
                depths[(layer - 1) % 2].use(0)
                program["nearer"].value = 0
            array = self._gl.vertex_array(program, [(vertices, "3f", "position")], indices)
            array.render()
            found.append(np.frombuffer(colour.read(), np.int32).reshape(size, size)[::-1])
            behind.append(np.frombuffer(depths[layer % 2].read(), np.float32).reshape(size, size)[::-1])
            array.release()
            if found[-1].max() < 0:  # nothing lies behind nothing
                break
        vertices.release()
        indices.release()
        for _ in range(layers - len(found)):
            found.append(np.full((size, size), -1, np.int32))
            behind.append(np.ones((size, size), np.float32))
        return Layers(torch.from_numpy(np.stack(found)).long(), torch.from_numpy(np.stack(behind)))

    def _target(self, size: int) -> tuple[Any, list[Any], list[Any]]:
        """The texture of indices, and two of depths to take turns in."""
        import moderngl

        if size not in self._targets:
            colour = self._gl.texture((size, size), 1, dtype="i4")
            depths = [self._gl.depth_texture((size, size)) for _ in range(2)]
            for depth in depths:
                depth.compare_func = ""
                depth.filter = (moderngl.NEAREST, moderngl.NEAREST)
            framebuffers = [self._gl.framebuffer([colour], depth) for depth in depths]
            self._targets[size] = colour, depths, framebuffers
        return self._targets[size]


def _context() -> Any:
    try:
        import moderngl

        settings: Any = {"backend": "egl"}  # which moderngl hands on to glcontext
        return moderngl.create_context(require=330, standalone=True, **settings)
    except Exception as error:
        # Whatever moderngl, EGL or the driver raise, it means that there is no OpenGL to be had.
        raise BackendError(f"OpenGL cannot be opened without a window: {error}.", hint=_HINT) from error
