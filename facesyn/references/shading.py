"""How surfaces answer light: skin, hair, and what lies around. One code for all renderers; knows no mesh or texture.

All colours are linear RGB, all directions unit vectors, all arguments tensors over n samples: (n,) or (3, n).
"""

from dataclasses import dataclass

import torch

from facesyn.references.lighting import Light


@dataclass(frozen=True)
class Lit:
    """A light on a device: `directions` (3, 3), `colours` (3, 3), `surroundings` (9, 3), exposure included."""

    directions: torch.Tensor
    colours: torch.Tensor
    surroundings: torch.Tensor

    @classmethod
    def of(cls, light: Light, exposure: float, device: str) -> "Lit":
        def tensor(values: object) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.float32, device=device)

        return cls(tensor(light.directions), tensor(light.colours * exposure), tensor(light.surroundings * exposure))

    def shining(self) -> list[int]:
        """The lights bright enough to matter."""
        return [i for i in range(3) if float(self.colours[i, :2].sum()) >= 0.02]

    def around(self, normal: torch.Tensor) -> torch.Tensor:
        """(3, n): diffuse light from the surroundings on a surface facing `normal` (3, n)."""
        x, y, z = normal
        basis = torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y])
        return (self.surroundings.T @ basis).clamp_(min=0)


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n,) of vectors (3, n), or of one (3, 1) with many."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def unit(v: torch.Tensor) -> torch.Tensor:
    """(3, n) vectors of length 1."""
    return v * dot(v, v).clamp_(min=1e-18).rsqrt_()


def surface(
    lit: Lit,
    normal: torch.Tensor,
    view: torch.Tensor,
    albedo: torch.Tensor,
    occlusion: torch.Tensor,
    shadow: torch.Tensor,
    wrap: torch.Tensor,
    reflectance: float,
    roughness: torch.Tensor,
    specular: torch.Tensor,
) -> torch.Tensor:
    """(3, n) light towards `view` from skin-like surfaces.

    `occlusion` (n,) ambient visibility, `shadow` (n,) visibility of the first light, `wrap` (3, n) or (3, 1) how far
    light wraps around, redder for skin, which stands in for scattering below it; `reflectance` at normal incidence
    (Schlick 1994); `roughness` (n,) of the GGX lobe (Walter et al. 2007); `specular` (n,) scales the highlights.
    """
    device = normal.device
    bleed = torch.tensor([[0.55], [0.18], [0.10]], device=device) * wrap
    colour = albedo * lit.around(normal) * (occlusion + bleed * (occlusion * (1 - occlusion) * 2))
    facing = dot(normal, view).clamp(min=0.02)
    a2 = roughness**4
    dimmed = 0.4 + 0.6 * occlusion
    edge = torch.tensor([[0.32], [0.04], [0.0]], device=device) * wrap
    unwrap = 1 / (1 + wrap)
    highlights = torch.zeros_like(albedo)
    for i in lit.shining():
        towards, light = lit.directions[i][:, None], lit.colours[i][:, None]
        cosine = dot(normal, towards)
        if i == 0:
            visible = shadow + edge * (shadow * (1 - shadow) * 4)
            visible_green = visible[1]
        else:
            visible = visible_green = dimmed
        diffuse = ((cosine + wrap) * unwrap).clamp_(0, 1)
        diffuse = diffuse * (1 + wrap * (diffuse - 1))
        colour = torch.addcmul(colour, albedo * light, diffuse * visible)
        half = unit(view + towards)
        nh, vh = dot(normal, half), dot(view, half)
        q = nh * nh * (a2 - 1) + 1
        lobe = schlick(reflectance, vh) * cosine.clamp(min=0) * a2 * visible_green * (0.25 / torch.pi)
        share = roughness * 0.5 + 0.12
        lobe = lobe / (q * q * (1 - share + share * cosine * facing))
        highlights = torch.addcmul(highlights, light, torch.where(cosine > 0, lobe, 0))
    glance = reflectance + (1 - reflectance) * torch.exp2((-5.55473 * facing - 6.98316) * facing) * 0.5
    mirrored = 2 * dot(normal, view) * normal - view
    highlights = torch.addcmul(highlights, lit.around(mirrored), glance * occlusion * 0.7)
    return torch.addcmul(colour, highlights, specular)


def matte(lit: Lit, normal: torch.Tensor, shadow: torch.Tensor, wrap: float) -> torch.Tensor:
    """(3, n) diffuse light on surfaces without highlights; light wraps around them by `wrap`."""
    light = lit.around(normal)
    for i in lit.shining():
        cosine = ((dot(normal, lit.directions[i][:, None]) + wrap) / (1 + wrap)).clamp_(0, 1)
        light = torch.addcmul(light, lit.colours[i][:, None], cosine * shadow if i == 0 else cosine)
    return light


def schlick(reflectance: float, cosine: torch.Tensor) -> torch.Tensor:
    """Fresnel reflectance (n,), in the spherical Gaussian approximation of Schlick's."""
    return reflectance + (1 - reflectance) * torch.exp2((-5.55473 * cosine - 6.98316) * cosine)


def strands(
    lit: Lit,
    normal: torch.Tensor,
    view: torch.Tensor,
    flow: torch.Tensor,
    albedo: torch.Tensor,
    occlusion: torch.Tensor,
    shadow: torch.Tensor,
    gloss: float,
) -> torch.Tensor:
    """(3, n) light towards `view` from hair whose strands follow `flow` (3, n), after Kajiya and Kay (1989)."""
    tangent = unit(flow - normal * dot(flow, normal) + 1e-4)
    colour = albedo * lit.around(normal) * (occlusion * occlusion)
    sheen = albedo.clamp(min=0).sqrt_() * (0.09 * gloss)
    for i in lit.shining():
        towards, light = lit.directions[i][:, None], lit.colours[i][:, None]
        half = unit(view + towards)
        visible = 0.12 + 0.88 * shadow if i == 0 else 0.4 + 0.6 * occlusion
        cosine = ((dot(normal, towards) + 0.35) / 1.35).clamp_(0, 1)
        along = dot(tangent, towards)
        diffuse = cosine * (0.35 + 0.65 * (1 - along * along).clamp_(min=0).sqrt_())
        lean, spread = dot(tangent, half), dot(normal, half)
        first, second = lean + 0.12 * spread, lean - 0.1 * spread
        narrow = torch.exp2(-60 * first * first) * cosine * (0.05 * gloss)
        broad = torch.exp2(-16 * second * second) * cosine
        colour = torch.addcmul(colour, light * (visible * occlusion), albedo * diffuse + narrow + sheen * broad)
    return colour
