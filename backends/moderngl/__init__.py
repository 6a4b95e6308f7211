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
out vec2 seen;
void main() { seen = vec2(gl_PrimitiveID, gl_FragCoord.z); }
"""
_BEHIND = """
#version 330
uniform sampler2D nearer; out vec2 seen;
void main() {
  if (gl_FragCoord.z <= texelFetch(nearer, ivec2(gl_FragCoord.xy), 0).g + 2e-7) discard;
  seen = vec2(gl_PrimitiveID, gl_FragCoord.z);
}
"""
_MOST_TRIANGLES = 2**24
"""Indices travel as 32-bit floats."""
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
        self._targets: dict[int, list[tuple[Any, Any]]] = {}

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
        if len(triangles) > _MOST_TRIANGLES:
            raise BackendError(f"{len(triangles):,} triangles are more than can be told apart ({_MOST_TRIANGLES:,}).")
        with self._gl:  # the current context is whichever was made last
            found = self._drawn(positions, triangles, matrix, size, layers)
        seen = torch.from_numpy(found)
        return Layers(seen[..., 0].long(), seen[..., 1].contiguous())

    def _drawn(
        self, positions: torch.Tensor, triangles: torch.Tensor, matrix: torch.Tensor, size: int, layers: int
    ) -> np.ndarray:
        """(layers, size, size, 2): triangle and depth."""
        import moderngl

        targets = self._target(size)
        vertices = self._gl.buffer(np.ascontiguousarray(positions.numpy(), np.float32).tobytes())
        indices = self._gl.buffer(np.ascontiguousarray(triangles.numpy(), np.int32).tobytes())
        columns = np.ascontiguousarray(matrix.numpy().T, np.float32).tobytes()
        found = np.empty((layers, size, size, 2), np.float32)
        found[..., 0], found[..., 1] = -1, 1
        self._gl.enable_only(moderngl.DEPTH_TEST)
        for layer in range(layers):
            program = self._behind if layer else self._nearest
            program["matrix"].write(columns)
            texture, framebuffer = targets[layer % 2]
            framebuffer.use()
            framebuffer.clear(-1.0, 1.0, depth=1.0)
            if layer:
                targets[(layer - 1) % 2][0].use(0)
                program["nearer"].value = 0
            array = self._gl.vertex_array(program, [(vertices, "3f", "position")], indices)
            array.render()
            found[layer] = np.frombuffer(texture.read(), np.float32).reshape(size, size, 2)[::-1]
            array.release()
            if found[layer, ..., 0].max() < 0:  # nothing lies behind nothing
                break
        vertices.release()
        indices.release()
        return found

    def _target(self, size: int) -> list[tuple[Any, Any]]:
        """Two textures of (triangle, depth) to take turns in, with their framebuffers."""
        import moderngl

        if size not in self._targets:
            made = []
            for _ in range(2):
                texture = self._gl.texture((size, size), 2, dtype="f4")
                texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
                made.append((texture, self._gl.framebuffer([texture], self._gl.depth_renderbuffer((size, size)))))
            self._targets[size] = made
        return self._targets[size]


def _context() -> Any:
    try:
        import moderngl

        settings: Any = {"backend": "egl"}  # which moderngl hands on to glcontext
        return moderngl.create_context(require=330, standalone=True, **settings)
    except Exception as error:
        # Whatever moderngl, EGL or the driver raise, it means that there is no OpenGL to be had.
        raise BackendError(f"OpenGL cannot be opened without a window: {error}.", hint=_HINT) from error
