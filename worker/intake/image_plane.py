"""How an image lies in the patient, in one word."""

import math

from worker.intake.header_text import Header, texts

PLANES = ("SAGITTAL", "CORONAL", "AXIAL")
"""By the axis of the patient that the image is perpendicular to: x to the left, y to the back, z to the head."""

WITHIN = math.cos(math.radians(35))
"""A CT gantry tilts by 30 degrees at most: what is scanned so is axial all the same."""


def image_plane(header: Header) -> str:
    """Return the plane of an image by Image Orientation (Patient) (PS3.3 C.7.6.2.1.1).

    Returns
    -------
    str
        `AXIAL`, `CORONAL`, `SAGITTAL`, `OBLIQUE` where it is more than 35 degrees off each of them; empty where the
        header does not say it, or says no two directions.
    """
    try:
        cosines = [float(value) for value in texts(header, "ImageOrientationPatient")]
    except ValueError:
        return ""
    if len(cosines) != 6 or not all(map(math.isfinite, cosines)):
        return ""
    (a, b, c), (d, e, f) = cosines[:3], cosines[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    if not 0.5 < length < 2:  # unit vectors at a right angle have 1; what is far from it says nothing
        return ""
    along = [abs(part) / length for part in normal]
    return PLANES[along.index(max(along))] if max(along) >= WITHIN else "OBLIQUE"
