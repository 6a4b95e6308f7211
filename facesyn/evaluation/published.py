"""Published verification accuracies to read a measured row beside. Figures of others, measured by nobody here."""

from collections.abc import Mapping

BENCHMARKS = {"LFW": "lfw", "CFP-FP": "cfp_fp", "CPLFW": "cplfw", "AgeDB-30": "agedb_30", "CALFW": "calfw"}
"""As papers call them → as insightface names its files."""
COLUMNS = ("training set", *BENCHMARKS, "mean")

ROWS = (
    ("SynFace", "91.93", "75.03", "70.43", "61.63", "74.73", "74.75"),
    ("DigiFace (DCFace's table)", "95.40", "87.40", "78.87", "76.97", "78.62", "83.45"),
    ("ATD Syn-CASIA", "96.63", "81.01", "74.33", "77.32", "85.76", "83.01"),
    ("ATD Syn-MS1M", "96.48", "80.82", "77.43", "77.51", "85.48", "83.54"),
    ("DCFace", "98.55", "85.33", "82.62", "89.70", "91.60", "89.56"),
    ("Vec2Face HSFace10K", "98.87", "88.97", "85.47", "93.12", "93.57", "92.00"),
    ("CASIA-WebFace (real)", "99.42", "96.56", "89.73", "94.08", "93.32", "94.62"),
)
"""Training sets of about 0.5 M images. Protocols differ between papers: a difference of a point says little."""


def measured_row(accuracy: Mapping[str, float]) -> tuple[str, ...]:
    """The row of what was measured, from benchmark file name → accuracy in [0, 1]; the mean only where all five are."""
    found = [accuracy.get(file) for file in BENCHMARKS.values()]
    values = [value for value in found if value is not None]
    mean = f"{100 * sum(values) / 5:.2f}" if len(values) == 5 else "–"
    return ("measured here", *("–" if value is None else f"{100 * value:.2f}" for value in found), mean)
