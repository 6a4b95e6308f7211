"""What each surface of the head looks like at the places where it is seen: colour, opacity, kind. Places no surface.

A material is a function of `Seen`, the interpolated geometry at n places, and answers with `Look`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from facesyn.references.grooming import Fur, Glasses, Hat
from facesyn.references.hats import Rim
from facesyn.references.looks import (
    BEARD,
    BROWS,
    CLOTHING,
    EYES,
    GLASSES,
    HAIR,
    HAT,
    MOUTH,
    SKIN,
    Look,
    Seen,
    bumped,
    facing,
    setting,
)
from facesyn.references.raster import Noise, smoothstep
from facesyn.references.scene import Surface, linear
from facesyn.references.shading import dot, matte, strands, surface, unit
from facesyn.references.textures import Textures

_LUMINANCE = (0.35, 0.5, 0.15)


class Materials:
    """The looks of one head's surfaces, with textures and noise on one device."""

    def __init__(self, textures: Textures, device: str):
        self._textures = textures
        self._noise = Noise(device)
        self._looks: Mapping[str, Callable[[Seen], Look]] = {
            "skin": self._skin_and_clothes,
            "eye": self._eye,
            "mouth": self._mouth,
            "hair": self._hair,
            "fur": self._fur,
            "card": self._card,
            "frame": self._frame,
            "lens": self._lens,
            "hat": self._hat,
        }

    def look(self, seen: Seen) -> Look:
        return self._looks[seen.surface.material](seen)

    def opacity(self, surface: Surface, uv: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """(n,) of textured cards alone, to let light through to shadows."""
        alpha = self._textures.colour(surface.texture).lookup(uv, 1)[3]
        return torch.where(_trimmed(rest, setting(surface, "trim", float), None) | _covered(rest, surface), 0, alpha)

    # ----------------------------------------------------------------------------------------------- skin

    def _skin_and_clothes(self, seen: Seen) -> Look:
        assert seen.values is not None
        cover = seen.values[2]
        dressed = cover > 0
        colour = torch.empty_like(seen.normal)
        shadow = seen.shadow(0.006)
        for part, shade in ((~dressed, self._skin), (dressed, self._cloth)):
            chosen = part.nonzero()[:, 0]
            if len(chosen):
                colour[:, chosen] = shade(seen, chosen, shadow[chosen])
        kind = torch.where(dressed, CLOTHING, SKIN)
        return Look(colour, seen.full(1.0), kind)

    def _skin(self, seen: Seen, at: torch.Tensor, shadow: torch.Tensor) -> torch.Tensor:
        assert seen.values is not None
        identity, style = seen.scene.identity, seen.scene.style
        skin, make_up = identity.skin, style.make_up
        rest, uv = seen.rest[:, at], seen.uv[:, at]
        beard, scalp, cover = seen.values[:, at]
        albedo, hairiness = self._skin_albedo(seen, rest, uv, beard, scalp)
        luminance = dot(albedo, seen.constant(*_LUMINANCE))
        relief = torch.log(luminance + 0.02) * 0.020 * skin.bump + self._wrinkles(rest, skin.wrinkles)
        normal = bumped(seen, at, unit(seen.normal[:, at]), relief)
        oil = self._textures.oil.lookup(uv)[0]
        deep = 0.45 + 0.55 * (luminance * 2.5).clamp(0, 1)
        wrap = seen.constant(0.42, 0.22, 0.16) * deep
        occlusion = seen.occlusion[at] * (1 - 0.5 * smoothstep(-0.09, 0.0, cover))
        return surface(
            seen.lit,
            normal,
            seen.view[:, at],
            albedo,
            occlusion,
            shadow,
            wrap,
            0.028,
            skin.roughness * (1 - 0.2 * oil),
            make_up.shine * skin.gloss * (1 + 0.7 * oil) * (1 - 0.8 * hairiness),
        )

    def _skin_albedo(
        self, seen: Seen, rest: torch.Tensor, uv: torch.Tensor, beard: torch.Tensor, scalp: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Linear albedo (3, n), and how hairy the skin is (n,): painted skins, tone, mottles, make-up, hair roots."""
        identity, style = seen.scene.identity, seen.scene.style
        skin, hair, noise = identity.skin, style.hair, self._noise
        level = self._textures.skin_level(seen.samples, seen.uv_corners)
        albedo = self._textures.skin(skin, uv, level)
        x, y, z = rest
        x = x.abs()
        uneven = skin.mottle * (noise.smooth(rest * 5, identity.noise * 3.1) - 0.5)
        albedo = albedo * (1 + uneven * seen.constant(0.10, 0.24, 0.24))
        albedo = albedo * (1 + 0.10 * (noise.cells(rest * 60, identity.noise) - 0.5))
        cheeks = torch.exp(-(((x - 0.42) / 0.2) ** 2) - ((y - 6.95) / 0.17) ** 2) * (z > 0.6)
        tip = torch.exp(-((x / 0.12) ** 2) - ((y - 6.99) / 0.1) ** 2) * (z > 1.3)
        blush = skin.flush * (cheeks + tip).clamp(0, 1)
        albedo = albedo * (1 + blush * seen.constant(0.05, -0.20, -0.20))
        if skin.freckles:
            dots = smoothstep(0.66, 0.82, noise.smooth(rest * 34, identity.noise))
            dots = dots * smoothstep(0.3, 0.6, noise.smooth(rest * 6, identity.noise + 9))
            dots = dots * smoothstep(6.75, 6.95, y) * smoothstep(7.7, 7.4, y) * smoothstep(0.9, 1.15, z)
            albedo = albedo * (1 - (skin.freckles * dots) * seen.constant(0.30, 0.50, 0.60))
        lips = (1 - smoothstep(0.7, 1.05, torch.hypot(x / 0.25, (y - 6.69) / 0.115))) * (z > 1.0)
        tinted = seen.constant(*style.make_up.lip_tint) * (dot(albedo, seen.constant(1, 1, 1)) * 0.7)
        albedo = torch.lerp(albedo, tinted, lips * style.make_up.lip_amount)
        ragged = 0.5 * (noise.smooth(rest * 11, identity.noise) - 0.5) * scalp * (1 - scalp) * 4
        roots = (hair.scalp * smoothstep(0.05, 1.0, scalp + ragged)).clamp(0, 0.92)
        root_colour = seen.constant(*linear(hair.rgb) * 0.8)
        albedo = torch.lerp(albedo, root_colour * (0.4 + 0.3 * noise.cells(rest * 120)), roots)
        stubble = (style.beard.stubble * beard * (0.50 + 0.65 * noise.cells(rest * 150, 7))).clamp(0, 1)
        dark = 0.12 if style.beard.fur is not None else 0.30
        tint = np.clip(dark + np.asarray(hair.rgb) * style.beard.shade / 255 * 0.9, 0.15, 1.0)
        albedo = albedo * (1 + stubble * (seen.constant(*tint) - 1))
        return albedo.clamp(0, 1), torch.maximum(roots, 0.5 * stubble)

    def _wrinkles(self, rest: torch.Tensor, strength: float) -> torch.Tensor:
        """(n,) relief in decimetres: lines across the forehead, crow's feet, lines under the eyes."""
        if strength < 0.02:
            return torch.zeros_like(rest[0])
        x, y, z = rest
        x = x.abs()
        wander = self._noise.smooth(rest * 4, 3) - 0.5
        forehead = torch.sin((y + 0.06 * wander - 0.03 * x) * 62) * smoothstep(7.58, 7.68, y) * smoothstep(8.0, 7.9, y)
        forehead = forehead * smoothstep(0.48, 0.3, x)
        away = torch.hypot(x - 0.40, y - 7.34)
        angle = torch.atan2(y - 7.34, x - 0.40)
        feet = (
            torch.sin(angle * 11 + 2 * wander)
            * smoothstep(0.04, 0.09, away)
            * smoothstep(0.22, 0.12, away)
            * (x > 0.40)
        )
        under = torch.sin((y + 0.3 * (x - 0.3) ** 2 + 0.05 * wander) * 75) * smoothstep(7.12, 7.17, y)
        under = under * smoothstep(7.27, 7.22, y) * smoothstep(0.12, 0.2, x) * smoothstep(0.45, 0.36, x)
        return strength * (z > 0.7) * (0.0040 * forehead + 0.0032 * feet + 0.0022 * under)

    def _cloth(self, seen: Seen, at: torch.Tensor, shadow: torch.Tensor) -> torch.Tensor:
        assert seen.values is not None
        clothing, rest, cover = seen.scene.style.clothing, seen.rest[:, at], seen.values[2, at]
        weave = 0.94 + clothing.stripes * 0.35 * (torch.sin(rest[1] * 42) > 0.25)
        folds = self._noise.smooth(rest * seen.constant(5.0, 2.5, 5.0), seen.scene.identity.noise) * 0.07
        normal = bumped(seen, at, unit(seen.normal[:, at]), folds)
        occlusion = seen.occlusion[at] * (0.55 + 0.45 * smoothstep(0.0, 0.07, cover))
        albedo = seen.constant(*linear(clothing.rgb)) * weave
        count = len(at)
        return surface(
            seen.lit,
            normal,
            seen.view[:, at],
            albedo,
            occlusion,
            shadow,
            seen.constant(0.15, 0.15, 0.15),
            0.03,
            seen.full(0.7)[:count],
            seen.full(0.25)[:count],
        )

    # ------------------------------------------------------------------------------------- eyes and mouth

    def _eye(self, seen: Seen) -> Look:
        _, gain, saturation = seen.scene.identity.iris
        colour = seen.texel(self._textures.colour(seen.surface.texture))[:3]
        left, right = (seen.constant(*centre.tolist()) for centre in seen.scene.eye_centres)
        normal = unit(seen.position - torch.where(seen.rest[0] > 0, left, right))
        albedo = colour**2.2
        chroma = colour.amax(0) - colour.amin(0)
        iris = smoothstep(0.13, 0.3, chroma) + smoothstep(0.45, 0.3, colour.mean(0))
        grey = dot(albedo, seen.constant(0.4, 0.45, 0.15)) * seen.constant(1.15, 0.98, 0.85)
        tinted = torch.lerp(grey, albedo, saturation) * gain
        albedo = torch.lerp(albedo * seen.constant(0.54, 0.51, 0.49), tinted, iris.clamp(0, 1))
        colour = surface(
            seen.lit,
            normal,
            seen.view,
            albedo,
            0.25 + 0.75 * smoothstep(0.05, 0.75, seen.occlusion),
            0.35 + 0.65 * seen.shadow(0.012),
            seen.constant(0.25, 0.18, 0.15),
            0.03,
            seen.full(0.2),
            seen.full(1.0),
        )
        return self._solid(colour, EYES)

    def _mouth(self, seen: Seen) -> Look:
        albedo = seen.texel(self._textures.colour(seen.surface.texture))[:3] ** 2.2
        front = smoothstep(1.0, 1.42, seen.rest[2])
        colour = surface(
            seen.lit,
            unit(seen.normal),
            seen.view,
            albedo * seen.constant(0.85, 0.80, 0.76),
            0.18 + 0.62 * front,
            (0.25 + 0.75 * seen.shadow(0.008)) * (0.2 + 0.8 * front),
            seen.constant(0.2, 0.2, 0.2),
            0.04,
            seen.full(0.4),
            seen.full(0.7),
        )
        return self._solid(colour, MOUTH)

    # ----------------------------------------------------------------------------------------------- hair

    def _hair(self, seen: Seen) -> Look:
        hair, seed = seen.scene.style.hair, seen.scene.identity.noise
        texel = seen.texel(self._textures.colour(seen.surface.texture))
        jitter = 0.10 * self._noise.smooth(seen.rest * seen.constant(22.0, 0.0, 22.0), seed)
        gone = _trimmed(seen.rest, setting(seen.surface, "trim", float), jitter) | _covered(seen.rest, seen.surface)
        opacity = torch.where(gone, 0, ((texel[3] * 1.35 - 0.12) / 0.7).clamp(0, 1))
        at = (opacity > 0.02).nonzero()[:, 0]
        texel, rest, view = texel[:3, at], seen.rest[:, at], seen.view[:, at]
        bright = dot(texel**2.2, seen.constant(0.3, 0.5, 0.2)) / self._textures.brightness(seen.surface.texture)
        lock = 0.8 + 0.4 * self._noise.smooth(rest * seen.constant(14.0, 3.0, 14.0), seed)
        amount = (1 + hair.detail * (bright.clamp(0.25, 2.2) - 1)) * lock
        colour = torch.zeros_like(seen.normal)
        colour[:, at] = strands(
            seen.lit,
            facing(unit(seen.normal[:, at]), view),
            view,
            self._flow(seen, at),
            seen.constant(*linear(hair.rgb)) * amount,
            0.30 + 0.70 * seen.occlusion[at],
            seen.shadow(0.012)[at],
            hair.gloss,
        )
        return Look(colour, opacity, torch.full_like(seen.samples.pixel, HAIR))

    def _fur(self, seen: Seen) -> Look:
        """Short hair: the ray is followed from the shell inwards, through cells that are hair or not."""
        assert seen.values is not None
        style, seed = seen.scene.style, seen.scene.identity.noise
        fur, beard = setting(seen.surface, "fur", Fur), setting(seen.surface, "where", str) == "beard"
        if beard:
            grown = seen.values[0]
            mask = grown * (0.75 + 0.5 * self._noise.cells(seen.rest * 52, 11))
            rgb, frequency = linear(style.hair.rgb) * style.beard.shade**2.2, 105.0
        else:
            grown, mask = self._scalp_density(seen)
            rgb, frequency = linear(style.hair.rgb), 85.0
        turn = torch.as_tensor(seen.scene.turn, dtype=torch.float32, device=seen.normal.device)
        normal = unit(seen.normal)
        slant = dot(normal, seen.view)
        sideways = normal - seen.view / slant.clamp(min=0.25)  # per unit of depth below the shell
        drift = turn.T @ sideways
        length = seen.values[2]
        steps = 8
        height = torch.zeros_like(length)
        grain = torch.zeros_like(length)
        missed = torch.ones_like(length, dtype=torch.bool)
        for step in range(steps):
            layer = 1 - step / steps
            place = (seen.rest + drift * (length * (1 - layer))) * frequency
            value = self._noise.cells(place, seed)
            there = (layer <= (0.45 + 0.55 * value) * smoothstep(0.0, 0.75, mask)) & (
                self._noise.cells(place, seed + 31) <= fur.density * smoothstep(0.03, 0.8, mask)
            )
            hit = missed & there & (mask >= 0.08)
            height, grain = torch.where(hit, layer, height), torch.where(hit, value, grain)
            missed &= ~hit
        ruffle = torch.stack(
            [grain, self._noise.cells(seen.rest * frequency, 2), self._noise.cells(seen.rest * frequency, 3)]
        )
        colour = strands(
            seen.lit,
            unit(normal + 0.35 * (ruffle - 0.5)),
            seen.view,
            self._flow(seen),
            seen.constant(*rgb) * (0.72 + 0.45 * grain),
            (0.35 + 0.65 * height) * (0.5 + 0.5 * seen.occlusion),
            seen.shadow(0.012),
            style.hair.gloss * 0.5,
        )
        # Rays that meet no hair still meet the roots of some, smaller than a sample. Where they do not lead to the skin
        # but along it, or come from within the shell, more hair lies behind its thin edge.
        roots = 0.93 * smoothstep(0.05, 0.4, mask)
        behind = smoothstep(0.45, 0.2, slant) * (grown > 0)
        opacity = torch.where(missed, torch.maximum(roots, behind), 1.0)
        opacity = torch.where(_covered(seen.rest, seen.surface), 0.0, opacity)
        return Look(colour, opacity, torch.full_like(seen.samples.pixel, BEARD if beard else HAIR))

    def _scalp_density(self, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
        """Where hair may grow (n,), and how densely it does (n,), with a ragged hairline that may lie further back."""
        assert seen.values is not None
        grown = seen.values[1]
        ragged = 0.45 * (self._noise.smooth(seen.rest * 11, seen.scene.identity.noise) - 0.5) * (1 - grown) * 2
        mask = smoothstep(0.15, 0.95, grown + ragged * (grown >= 0.02))
        hairline = seen.scene.style.hair.hairline
        if hairline is not None:
            x, y, z = seen.rest
            behind = smoothstep(hairline, hairline + 0.14, z * -0.55 + x.abs() * 0.25 + (8.3 - y) * 0.55)
            grown, mask = grown * behind, mask * behind
        return grown, mask

    def _flow(self, seen: Seen, at: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """(3, n): hair is combed away from the crown, and falls."""
        crown = seen.constant(*seen.scene.crown.tolist())
        return unit(seen.position[:, at] - crown + seen.constant(0.0, -0.25, 0.0))

    def _card(self, seen: Seen) -> Look:
        """Brows and lashes."""
        alpha = seen.texel(self._textures.colour(seen.surface.texture))[3]
        rgb = setting(seen.surface, "rgb", np.ndarray)
        normal = facing(unit(seen.normal), seen.view)
        colour = seen.constant(*rgb.tolist()) * matte(seen.lit, normal, seen.shadow(0.02), 0.4)
        opacity = (alpha * setting(seen.surface, "gain", float)).clamp(0, 1)
        return Look(colour, opacity, torch.full_like(seen.samples.pixel, BROWS))

    # ----------------------------------------------------------------------------------- glasses and hats

    def _frame(self, seen: Seen) -> Look:
        rgb = setting(seen.surface, "rgb", np.ndarray)
        colour = surface(
            seen.lit,
            facing(unit(seen.normal), seen.view),
            seen.view,
            seen.constant(*rgb.tolist()).expand_as(seen.normal),
            seen.full(0.85),
            seen.shadow(0.02),
            seen.constant(0.05, 0.05, 0.05),
            0.05,
            seen.full(0.35),
            seen.full(1.0),
        )
        return self._solid(colour, GLASSES)

    def _lens(self, seen: Seen) -> Look:
        glasses = setting(seen.surface, "glasses", Glasses)
        normal = facing(unit(seen.normal), seen.view)
        shine = surface(
            seen.lit,
            normal,
            seen.view,
            seen.constant(*glasses.tint).expand_as(normal) * 0.04,
            seen.full(1.0),
            seen.full(1.0),
            seen.constant(0.0, 0.0, 0.0),
            0.05,
            seen.full(0.3),
            seen.full(1.5),
        )
        opacity = seen.full(glasses.lens_opacity)
        return Look(shine, opacity, torch.full_like(seen.samples.pixel, GLASSES))

    def _hat(self, seen: Seen) -> Look:
        """Knitted in ribs, or sewn of six panels; the brim or the cuff may be of another colour."""
        hat = setting(seen.surface, "hat", Hat)
        u, v = seen.uv
        if hat.brim:
            accent = (v < 0).float()
            seam = (torch.sin(u * (6 * torch.pi)).abs() < 0.035) & (v > 0)
            pattern, relief = 1 - 0.35 * seam, 0.02 * self._noise.smooth(seen.rest * 4, seen.scene.identity.noise)
        else:
            accent = (v < 0.26).float()
            ribs = torch.sin(u * (2 * torch.pi * 46))
            pattern, relief = 0.88 + 0.12 * ribs, 0.012 * ribs + 0.006 * self._noise.cells(seen.rest * 40)
        albedo = torch.lerp(seen.constant(*linear(hat.rgb)), seen.constant(*linear(hat.accent)), accent) * pattern
        # Little light comes from the head that a brim's lower side faces.
        normal = facing(unit(seen.normal), seen.view)
        occlusion = 0.45 + 0.55 * smoothstep(-0.6, 0.3, normal[1])
        colour = surface(
            seen.lit,
            bumped(seen, torch.arange(len(seen.samples), device=u.device), normal, relief),
            seen.view,
            albedo,
            occlusion,
            seen.shadow(0.015),
            seen.constant(0.15, 0.15, 0.15),
            0.03,
            seen.full(0.75),
            seen.full(0.2),
        )
        return self._solid(colour, HAT)

    def _solid(self, colour: torch.Tensor, kind: int) -> Look:
        count = colour.shape[1]
        return Look(
            colour,
            torch.ones(count, device=colour.device),
            torch.full((count,), kind, dtype=torch.int64, device=colour.device),
        )


def _trimmed(rest: torch.Tensor, trim: float, jitter: torch.Tensor | None) -> torch.Tensor:
    """(n,) bool: where a long fringe is cut, at height `trim`, to keep out of the eyes."""
    x, y, z = rest
    edge = trim - 0.25 * x * x + (0.05 if jitter is None else jitter)
    return (z > 0.75) & (x.abs() < 0.66) & (y < edge) & (trim > 0)


def _covered(rest: torch.Tensor, surface: Surface) -> torch.Tensor:
    """(n,) bool: what hair lies under a hat."""
    rim = surface.settings.get("rim")
    if not isinstance(rim, Rim):
        return torch.zeros_like(rest[0], dtype=torch.bool)
    normal = torch.as_tensor(rim.normal, dtype=torch.float32, device=rest.device)
    return normal @ rest > rim.height
