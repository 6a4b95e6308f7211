"""Which gates are closed, and where: the `[gates]` table of a recipe. Measures nothing."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, le=0.5)]


class GateSettings(BaseModel):
    """Every gate can be switched off on its own, all of them with `enabled`.

    Similarities are judged at false match rates, by the calibration shipped with the encoder or the file `calibration`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    enabled: bool = True
    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    """How often a picture is made, each time with a fresh seed, before it ends as a shortfall."""
    calibration: str = ""
    known: list[str] = []
    """Folders of faces that nobody new may look like, e.g. a dataset this one will be added to."""

    quality: bool = True
    contrast: Annotated[float, Field(ge=0)] = 8.0
    """Least standard deviation of the luminance, of 255."""
    sharpness: Annotated[float, Field(ge=0)] = 4.0
    """Least variance of the luminance's Laplacian at 128 pixels."""

    one_face: bool = True
    detector: str = "haar"

    frontal: bool = True
    landmarker: str = "mini"
    yaw: Annotated[float, Field(gt=0, le=90)] = 20.0
    """Greatest yaw, and greatest pitch, of a source in degrees."""

    attributes: bool = True
    """Hold sources to the attributes asked for, in colour and in grey."""
    image_attributes: bool = True
    """Hold images to them too, likewise."""
    classifier: str = ""
    """Who judges ethnicity, gender and age interval; empty: nobody, both gates stay open."""

    unique: bool = True
    alpha: Rate = 0.1
    """How many of a dataset's people may be refused by mistake: the gate's FMR is alpha / identities."""

    identity: bool = True
    identity_fmr: Rate = 0.01
    copy_limit: Annotated[float, Field(gt=0, le=1)] = 0.995
    """Cosine to the source from which an image is a copy of it."""

    leakage: bool = True
    leakage_fmr: Rate = 0.001

    duplicates: bool = True
    distance: Annotated[float, Field(ge=0)] = 2.0
    """Least mean difference, of 255, between two images of a person at 32 pixels."""

    @property
    def classified(self) -> list[str]:
        """What the classifier judges: nothing, `source face`, `image`, or both."""
        closed = {"source face": self.attributes, "image": self.image_attributes}
        return [name for name, gate in closed.items() if gate and self.enabled and self.classifier]
