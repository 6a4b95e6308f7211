"""Face detectors that need nothing but OpenCV: its bundled Haar cascade, or a YuNet file of the user's."""

from pathlib import Path

import numpy as np
from PIL import Image

from facesyn.errors import ModelError, UsageError


class HaarDetector:
    """Frontal faces by OpenCV's bundled cascade (Viola and Jones 2001), landmarks by a landmarker inside each box.

    `landmarker` is a model folder or bundle; the embedded one has seen renders only, so its points on photographs are
    a guess. `neighbours` is how many overlapping hits make a face; `smallest` is a share of the picture's shorter side.
    """

    licence = "BSD-3-Clause"
    """Of the cascade file, as its header has it."""

    def __init__(self, landmarker: str = "mini", neighbours: int = 4, smallest: float = 0.2):
        import cv2

        from facesyn.identity.landmarks import load_landmarker

        if not 0 < smallest < 1:
            raise UsageError(f"The smallest face is a share of the picture between 0 and 1, not {smallest}.")
        folder = Path(cv2.__file__).parent / "data"
        self._cascade = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))
        self._landmarker = load_landmarker(landmarker)
        self._neighbours, self._smallest = neighbours, smallest

    @classmethod
    def why_unavailable(cls) -> str | None:
        import cv2

        return (
            None if hasattr(cv2, "CascadeClassifier") else "This OpenCV is without Haar cascades, as 5 and later are."
        )

    def detect(self, image: Image.Image) -> np.ndarray:
        """See `facesyn.protocols.FaceDetector`. The score is the cascade's weight of the last stage."""
        import cv2

        from facesyn.identity.landmarks import landmarks_in_box

        grey = cv2.equalizeHist(np.asarray(image.convert("L")))
        scale = max(1.0, 256 / min(grey.shape))  # the cascade's window is 24 pixels: small pictures are enlarged for it
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        least = max(24, round(self._smallest * min(grey.shape)))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey, 1.1, self._neighbours, minSize=(least, least), outputRejectLevels=True
        )
        rows = []
        for (x, y, w, h), weight in sorted(zip(boxes, weights, strict=True), key=lambda found: -float(found[1])):
            box = np.array([x, y, x + w, y + h], dtype=np.float32) / scale
            rows.append(np.concatenate([box, [float(weight)], landmarks_in_box(self._landmarker, image, box).ravel()]))
        return np.array(rows, dtype=np.float32).reshape(-1, 15)


class YuNetDetector:
    """Faces and landmarks by a YuNet ONNX file (Wu et al. 2023) at `path`, through OpenCV's own class for it."""

    def __init__(self, path: str, score: float = 0.7):
        import cv2

        if not Path(path).is_file():
            raise ModelError(
                f"There is no YuNet file {path}.", hint="OpenCV's model zoo has face_detection_yunet_*.onnx."
            )
        try:
            self._detector = cv2.FaceDetectorYN.create(path, "", (320, 320), score)
        except cv2.error:
            raise ModelError(f"{path} cannot be loaded as a YuNet model.") from None

    def detect(self, image: Image.Image) -> np.ndarray:
        """See `facesyn.protocols.FaceDetector`."""
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
        self._detector.setInputSize((image.width, image.height))
        found = self._detector.detect(np.ascontiguousarray(pixels))[1]
        rows = np.zeros((0, 15), np.float32) if found is None else found[np.argsort(-found[:, 14], kind="stable")]
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
        return np.concatenate([corners, rows[:, 14:15], rows[:, 4:14]], 1).astype(np.float32)
