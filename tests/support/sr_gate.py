"""The public validators of a Structured Report, run over files of ours.

dcmtk (dcmdump, dsrdump, dsr2html), dicom3tools (dciodvfy, dcentvfy) and PixelMed (DicomSRValidator). What each finds
comes back as text; an empty list is a pass. The last starts a Java machine and compiles its style sheets, 10 to 20 s:
it takes several files in one run where a JDK can start a Java source file, else each starts its own.
"""

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

TOOLS = ("dcmdump", "dsrdump", "dsr2html", "dciodvfy", "dcentvfy", "DicomSRValidator")

UNAVOIDABLE = ("Illegal root for UID", "Leading zeroes in embedded numeric component")
"""Errors about UIDs that a source was given: a report cannot have others."""

PIXELMED_SAYS = ("Found Root Template TID_1500", "Root Template Validation Complete", "IOD validation complete")
PIXELMED_ALLOWED = re.compile(
    r"TEXT \(122405,DCM"  # algorithm manufacturer: younger than the packaged edition (2022) of the templates
    r'|CONTAINER \(125007,DCM,"Measurement Group"\)/CODE \([^)]*\): Content Item not in template'  # evaluations, too
)
JAVA_LIMITS = " ".join(f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprGrp", "ExprOp", "TotalOp"))
"""Without these a recent JDK refuses the style sheets, and the validator says nothing at all."""

PIXELMED_JAR = Path("/usr/share/java/pixelmed.jar")
SEPARATOR = "=== "
DRIVER = """
public class Validate {
    public static void main(String[] names) throws Exception {
        com.pixelmed.validate.DicomSRValidator validator = new com.pixelmed.validate.DicomSRValidator();
        for (String name : names) {
            System.out.println("=== " + name);
            System.out.print(validator.validate(name, false, true, true, true, false));
        }
    }
}
"""


def light(report: Path) -> list[str]:
    """Run the quick validators over a report: encoding, document tree, rendering, IOD."""
    page = report.with_suffix(".html")
    findings = [*_dcmtk("dcmdump", "-q", report), *_dcmtk("dsrdump", report), *_dcmtk("dsr2html", report, page)]
    page.unlink(missing_ok=True)
    code, text = _run("dciodvfy", "-new", report)
    errors = [line for line in text.splitlines() if line.startswith("Error")]
    avoidable = [line for line in errors if not any(words in line for words in UNAVOIDABLE)]
    if code and not errors:
        avoidable.append(f"dciodvfy ended with {code}")
    return findings + avoidable


def same_entities(report: Path, source: Path, scratch: Path) -> list[str]:
    """Compare patient and study of a report with its source (dcentvfy cannot read pixels of every kind: without)."""
    header = scratch / "source-header.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(header)
    code, text = _run("dcentvfy", report, header)
    errors = [line for line in text.splitlines() if line.startswith("Error")]
    return errors or ([f"dcentvfy ended with {code}"] if code else [])


def templates(reports: Sequence[Path], scratch: Path) -> dict[Path, list[str]]:
    """Validate reports against their templates (TID 1500 and what it includes)."""
    environment = os.environ | {"JAVA_TOOL_OPTIONS": JAVA_LIMITS}
    if shutil.which("javac") and PIXELMED_JAR.is_file():
        driver = scratch / "Validate.java"
        driver.write_text(DRIVER)
        path = os.pathsep.join(map(str, sorted(PIXELMED_JAR.parent.glob("*.jar"))))
        _, text = _run("java", "-cp", path, driver, *reports, environment=environment)
        parts = text.split(SEPARATOR)[1:]
        said = {Path(part.splitlines()[0]): part for part in parts}
    else:
        options = ("-checkcontentitemorder", "-checktemplateid", "-checkambiguoustemplate")
        said = {r: _run("DicomSRValidator", *options, r, environment=environment)[1] for r in reports}
    return {report: _template_findings(said.get(report, "")) for report in reports}


def _template_findings(text: str) -> list[str]:
    findings = [f"DicomSRValidator did not say: {words}" for words in PIXELMED_SAYS if words not in text]
    return findings + [
        line
        for line in text.splitlines()
        if line.startswith("Error") or (line.startswith("Warning") and not PIXELMED_ALLOWED.search(line))
    ]


def content(report: Path) -> list[str]:
    """Check what an AI result has to say and no public validator looks for."""
    document = pydicom.dcmread(report)
    findings = []
    if (document.CompletionFlag, document.PreliminaryFlag, document.VerificationFlag) != (
        "COMPLETE", "PRELIMINARY", "UNVERIFIED",
    ):  # fmt: skip
        findings.append("the flags are not COMPLETE, PRELIMINARY, UNVERIFIED")
    if "NOT FOR DIAGNOSIS" not in document.SeriesDescription:
        findings.append("the series does not say NOT FOR DIAGNOSIS")
    if document.ContentTemplateSequence[0].TemplateIdentifier != "1500":
        findings.append("the root template is not TID 1500")
    observers = [item.UID for item in document.ContentSequence if name(item) == "121012"]
    devices = {item.get("DeviceUID") for item in document.ContributingEquipmentSequence}
    if len(observers) != 1 or devices != set(observers):
        findings.append(f"device observer {observers} and contributing equipment {devices} differ")
    for group in groups(document):
        missing = {"112039", "112040", "111001", "111003"} - {name(item) for item in group.ContentSequence}
        findings += [f"a group lacks {code}" for code in sorted(missing)]
    return findings


def groups(document: pydicom.Dataset) -> list[pydicom.Dataset]:
    """Return the measurement groups of a report."""
    (measurements,) = [item for item in document.ContentSequence if name(item) == "126010"]
    return list(measurements.ContentSequence)


def name(item: pydicom.Dataset) -> str:
    """Return the code value of a content item's concept name."""
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _dcmtk(*command: str | Path) -> list[str]:
    code, text = _run(*command)
    errors = [line for line in text.splitlines() if line.startswith(("E: ", "F: "))]
    return [f"{command[0]}: {line}" for line in errors] or ([f"{command[0]} ended with {code}"] if code else [])


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, env=environment, check=False)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def failures(findings: Iterable[tuple[Path, list[str]]]) -> dict[str, list[str]]:
    """Return what is not a pass, by the name of the file."""
    return {path.name: found for path, found in findings if found}
