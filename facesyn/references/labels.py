"""What is known of a rendered picture, as plain JSON values. Knows no pixel."""

from typing import Any

from facesyn.references.grooming import CUT_WORDS
from facesyn.references.photograph import quality_label
from facesyn.references.scene import Scene, angles
from facesyn.references.styles import Style
from facesyn.rendered import REFERENCE_STYLE


def label(scene: Scene, size: int) -> dict[str, Any]:
    """Labels of a scene in a picture of `size` × `size`: who, in what style, and where the landmarks are.

    `landmarks` are five (x, y) in pixels, in the order of `facesyn.protocols.FaceDetector`. Angles are degrees as the
    camera sees them; light directions point to the light in the picture's frame (x right, y up, z towards the camera).
    """
    identity, style = scene.identity, scene.style
    yaw, pitch, roll = angles(scene.turn)
    beard = style.beard.word
    return {
        "identity": identity.name,
        "style": style.number,
        "ethnicity": identity.cell.ethnicity,
        "gender": identity.cell.gender,
        "age": identity.age,
        "age_interval": str(identity.cell.age_interval),
        "landmarks": _rounded((scene.landmarks * size).tolist(), 2),
        "yaw": round(yaw, 1),
        "pitch": round(pitch, 1),
        "roll": round(roll, 1),
        "gaze": _rounded(list(style.expression.gaze), 1),
        "camera": style.camera.name or "camera",
        "camera_distance_dm": round(style.camera.distance, 1),
        "expression": style.expression.name,
        "expression_weights": {unit: round(weight, 2) for unit, weight in style.expression.weights.items()},
        "light": {
            "name": style.light.name,
            "directions": _rounded(scene.light.directions.tolist(), 3),
            "colours": _rounded(scene.light.colours.tolist(), 3),
            "surroundings": _rounded(scene.light.surroundings.tolist(), 3),
            "exposure": round(scene.exposure, 3),
        },
        "background": style.background.kind,
        "clothing": [round(value) for value in style.clothing.rgb],
        "quality": quality_label(style.quality),
        "hair": style.hair.phrase,
        "hair_style": CUT_WORDS.get(style.hair.cut, style.hair.cut),
        "hair_color": style.hair.colour,
        "facial_hair": beard,
        "lipstick": style.make_up.lipstick,
        "lip_amount": round(style.make_up.lip_amount, 2),
        "glasses": style.glasses.word if style.glasses else "none",
        "hat": style.hat.word if style.hat else "none",
        "eyes": f"{identity.eye_colour} eyes",
        "eye_color": identity.eye_colour,
        "skin": f"{identity.skin.word} skin",
        "freckle": round(identity.skin.freckles, 2),
        "brows": identity.brows,
        "brow_gain": round(identity.brow_gain, 2),
        "targets": {name: round(weight, 2) for name, weight in identity.targets.items() if abs(weight) >= 0.005},
        "caption": caption(scene),
        "style_caption": style_caption(style, yaw, pitch),
    }


def caption(scene: Scene) -> str:
    """The person in a sentence."""
    identity, style = scene.identity, scene.style
    noun = {"female": "woman", "male": "man"}[identity.cell.gender]
    beard = {"none": "", "clean-shaven": "", "stubble": " and stubble"}.get(
        style.beard.word, f" and a {style.beard.word}"
    )
    things = [style.glasses.word] if style.glasses else []
    things += [f"a {style.hat.word}"] if style.hat else []
    worn = f", wearing {' and '.join(things)}" if things else ""
    return (
        f"a {identity.age} year old {identity.cell.ethnicity} {noun} with {style.hair.phrase}, "
        f"{identity.eye_colour} eyes, {identity.skin.word} skin{beard}{worn}"
    )


def style_caption(style: Style, yaw: float, pitch: float) -> str:
    """The style in a sentence; angles in degrees as the camera sees them."""
    if style.number == REFERENCE_STYLE:
        return "neutral expression, facing the camera, soft light, plain background"
    degree = "slightly " if abs(yaw) < 30 else "far " if abs(yaw) > 55 else ""
    side = "right" if yaw > 0 else "left"
    turned = "facing the camera" if abs(yaw) < 12 else f"turned {degree}to the {side} of the picture"
    tilted = ", looking up" if pitch > 10 else ", looking down" if pitch < -10 else ""
    return (
        f"{style.expression.name} expression, {turned}{tilted}, {style.light.name} light, "
        f"{style.background.kind} background"
    )


def _rounded(values: Any, digits: int) -> Any:
    if isinstance(values, list):
        return [_rounded(value, digits) for value in values]
    return round(float(values), digits)
