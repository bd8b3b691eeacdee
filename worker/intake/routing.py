"""Routing: which object goes to which model, and if to none, why.

Rules are data (`worker.config.Route`): the hospital's own from `firstread.toml` first, then the shipped ones below. The
first match wins; a route marked `also` fires and lets the search go on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from worker.config import Route
from worker.intake.header_text import Header, code, texts
from worker.intake.image_plane import image_plane

FILMS = ("CR", "DX", "RG")
CHEST = ("*CHEST*", "*THORAX*", "*LUNG*")
CHEST_WORDS = ("*CHEST*", "*THORAX*", "*THORACIC*", "*LUNG*")
DESCRIPTIONS = "StudyDescription|SeriesDescription|ProtocolName"
OTHER_PARTS = (
    "*ABD*", "*PELVI*", "*HIP*", "*KNEE*", "*ANKLE*", "*FOOT*", "*TOE*", "*HAND*", "*WRIST*", "*FINGER*", "*ELBOW*",
    "*SHOULDER*", "*HUMER*", "*FEMUR*", "*TIBIA*", "*FOREARM*", "*SKULL*", "*HEAD*", "*SINUS*", "*NECK*", "*SPINE*",
    "*LUMBAR*", "*CERVICAL*", "*SACR*", "*BREAST*", "*MAMMO*", "*DENTAL*", "*TEETH*", "*JAW*", "*EXTREMIT*",
)  # fmt: skip

NO_CHEST = (
    "HEAD", "SKULL", "BRAIN", "SINUS", "ORBIT", "EAR", "JAW", "MAXILLA", "MANDIBLE", "NECK", "SPINE", "CSPINE",
    "TSPINE", "LSPINE", "SSPINE", "PELVIS", "HIP", "KNEE", "ANKLE", "FOOT", "HAND", "WRIST", "ELBOW", "SHOULDER",
    "EXTREMITY", "ARM", "LEG", "CALCANEUS", "TOE", "FINGER", "UTERUS", "KIDNEY", "BLADDER", "PROSTATE", "COLON",
    "PANCREAS",
)  # fmt: skip
"""Values of BodyPartExamined (PS3.16 annex L) of series without lungs. ABDOMEN is none of them: many scanners say it of
everything that one run from neck to pelvis has given."""

SHIPPED: tuple[Route, ...] = (
    Route(
        name="ai-result",
        when={"SeriesDescription": ("*NOT FOR DIAGNOSIS*",)},
        not_eligible="a result of an AI, not an acquisition",
    ),
    Route(
        name="for-processing",
        when={"PresentationIntentType": ("FOR PROCESSING",)},
        not_eligible="raw detector data (PresentationIntentType FOR PROCESSING); send the image FOR PRESENTATION",
    ),
    Route(
        name="for-processing-class",
        when={"SOPClassUID": ("1.2.840.10008.5.1.4.1.1.1.1.1",)},
        not_eligible="raw detector data (SOP class For Processing); send the image FOR PRESENTATION",
    ),
    Route(
        name="lateral",
        when={"Modality": FILMS, "ViewPosition": ("LL", "RL")},
        not_eligible="a lateral view (ViewPosition LL or RL); the model reads frontal films",
    ),
    Route(
        name="ct-secondary-capture",
        when={"Modality": ("CT",), "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.7*",)},
        not_eligible="a secondary capture of a CT (a dose report, a rendering, a screen), not a slice",
    ),
    Route(name="chest-film", when={"Modality": FILMS, "BodyPartExamined": CHEST}, model="chest_xray_triage"),
    Route(
        name="chest-film-described",
        when={"Modality": FILMS, "BodyPartExamined": ("",), DESCRIPTIONS: CHEST_WORDS},
        model="chest_xray_triage",
    ),
    Route(
        name="chest-secondary-capture",
        when={"SOPClassUID": ("1.2.840.10008.5.1.4.1.1.7*",), f"BodyPartExamined|{DESCRIPTIONS}": ("*CHEST*",)},
        model="chest_xray_triage",
    ),
    Route(
        name="other-film-described",
        when={"Modality": FILMS, "BodyPartExamined": ("",), DESCRIPTIONS: OTHER_PARTS},
        not_eligible="a film of another body part, as its description says",
    ),
    Route(
        name="film-of-unsaid-part",
        when={"Modality": ("CR", "DX"), "BodyPartExamined": ("",)},
        model="chest_xray_triage",
        remark="nothing says which body part this film shows; it was read as a chest film",
    ),
    Route(
        name="ct-localizer",
        when={"Modality": ("CT",), "ImageType": ("LOCALIZER",)},
        not_eligible="a CT localizer",
    ),
    Route(
        name="ct-no-slice",
        when={"Modality": ("CT",), "ImageType": ("*MIP*", "*DOSE*", "*SCREEN SAVE*", "*PROT", "VOLUME_RENDER", "VRT")},
        not_eligible="a projection, a rendering or a text page of a CT, as its ImageType says, not a slice",
    ),
    Route(
        name="ct-dose-report",
        when={"Modality": ("CT",), "SeriesDescription": ("*DOSE REPORT*", "*DOSE INFO*", "*PATIENT PROTOCOL*")},
        not_eligible="a dose report of a CT, as its description says",
    ),
    Route(
        name="ct-bolus",
        when={
            "Modality": ("CT",),
            "SeriesDescription": (
                "*MONITORING*",
                "*SMART*PREP*",
                "*BOLUS TRACK*",
                "*TEST*BOLUS*",
                "LOCATOR*",
                "TRACKER*",
            ),
        },
        not_eligible="one level seen again and again while contrast comes in, as its description says",
    ),
    Route(
        name="ct-not-axial",
        when={"Modality": ("CT",), "ImageOrientationPatient": ("CORONAL", "SAGITTAL", "OBLIQUE")},
        not_eligible="a CT image that is not axial (ImageOrientationPatient); the model reads axial slices",
    ),
    Route(
        name="ct-spine",
        when={"Modality": ("CT",), "SeriesDescription|ProtocolName": ("*SPINE*",)},
        not_eligible="a CT of the spine, as its description says",
    ),
    Route(
        name="ct-other-part",
        when={"Modality": ("CT",), "BodyPartExamined": NO_CHEST},
        not_eligible="a CT of another body part, as its BodyPartExamined says",
    ),
    Route(
        name="chest-ct",
        when={"Modality": ("CT",), f"BodyPartExamined|{DESCRIPTIONS}": CHEST_WORDS},
        model="chest_ct_covid",
    ),
)


@dataclass(frozen=True)
class Decision:
    """Where an object goes.

    Attributes
    ----------
    models
        `name@version` of each model that is to classify it; empty when it is not eligible.
    reason
        Why it is not eligible; empty when it is.
    remark
        What is to be shown with the result.
    route
        Name of the rule that decided; empty when none matched.
    """

    models: tuple[str, ...]
    reason: str
    remark: str
    route: str


class Router:
    """The rules, and the models there are.

    Parameters
    ----------
    routes
        The hospital's own rules, tried before the shipped ones.
    installed
        Installed versions of each model, oldest first.

    Attributes
    ----------
    keywords
        Of the attributes that the rules and their reasons look at.
    """

    def __init__(self, routes: Sequence[Route], installed: Mapping[str, Sequence[str]]) -> None:
        self.routes = (*routes, *SHIPPED)
        self.installed = installed
        words = {keyword for route in self.routes for keywords in route.when for keyword in keywords.split("|")}
        self.keywords = frozenset(words) | {"Modality", "BodyPartExamined"}

    def decide(self, header: Header) -> Decision:
        """Return where the object with this header goes; says nothing about whether it holds an image."""
        models: list[str] = []
        remarks: list[str] = []
        names: list[str] = []
        missing: list[str] = []
        for route in self.routes:
            if not matches(route, header):
                continue
            names.append(route.name)
            if route.not_eligible is not None:
                if not models:
                    return Decision((), route.not_eligible, "", route.name)
                break
            model = self._newest(route.model or "")
            if model is None:
                missing.append(route.model or "")
            elif model not in models:
                models.append(model)
            if route.remark:
                remarks.append(route.remark)
            if not route.also:
                break
        if models:
            return Decision(tuple(models), "", "; ".join(remarks), ", ".join(names))
        if missing:
            return Decision((), f"no model installed for it ({', '.join(missing)})", "", ", ".join(names))
        return Decision((), f"no rule sends it to a model ({describe(header)})", "", "")

    def _newest(self, model: str) -> str | None:
        name, _, version = model.partition("@")
        versions = self.installed.get(name, ())
        if version:
            return model if version in versions else None
        return f"{name}@{versions[-1]}" if versions else None


def matches(route: Route, header: Header) -> bool:
    """Say whether every condition of a route holds."""
    return all(
        any(_fits(value, pattern) for value in _values(header, keywords) for pattern in patterns)
        for keywords, patterns in route.when.items()
    )


def describe(header: Header) -> str:
    """Return modality and body part in words, for a reason."""
    return f"Modality {code(header, 'Modality')}, BodyPartExamined {code(header, 'BodyPartExamined')}"


def _fits(value: str, pattern: str) -> bool:
    return fnmatchcase(value.upper(), pattern.upper()) if pattern else not value


def _values(header: Header, keywords: str) -> Iterator[str]:
    """Yield the values of one keyword, or of several joined by `|`; an absent one is the empty string.

    Direction cosines are nothing to compare with a pattern: Image Orientation (Patient) is the word for its plane.
    """
    for keyword in keywords.split("|"):
        if keyword == "ImageOrientationPatient":
            yield image_plane(header)
        else:
            yield from texts(header, keyword) or [""]
