"""A study's result in words, the same in a terminal and on a page.

"Pending", "failed" and "not eligible" are always spelled out, and a complete study without a flagged finding says just
that: the words "negative" and "normal" are a radiologist's, never ours.
"""

from collections.abc import Iterable
from typing import Any

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"


def ai_words(document: dict[str, Any]) -> str:
    """Say in words where the AI stands with a study."""
    status, reason = document["ai_status"], document["reason"] or "no reason was recorded"
    if status == "pending":
        counts = document["instances"]
        read = counts["received"] - counts["pending"]
        return f"AI pending ({read} of {counts['received']} done)" if read else "AI pending"
    if status == "failed":
        return f"AI failed: {reason}"
    if status == "not_eligible":
        return f"Not eligible: {reason}"
    flagged = sum(finding["flagged"] for finding in document["findings"])
    if not flagged:
        return "No finding flagged"
    return "1 finding flagged" if flagged == 1 else f"{flagged} findings flagged"


def result_words(document: dict[str, Any]) -> str:
    """Say in one line what the AI made of a study: what it flagged, or in words that and why it flagged nothing."""
    flagged = [named_percent(one) for one in flagged_first(document["findings"]) if one["flagged"]]
    parts = [", ".join(flagged)] if flagged else []
    if document["ai_status"] != "complete" or not flagged:
        highest = highest_unflagged(document)
        parts.insert(0, ai_words(document) + (f" (highest: {named_percent(highest)})" if highest else ""))
    if document["reason"] and document["ai_status"] in ("complete", "pending"):
        parts.append(document["reason"])
    return "; ".join(parts)


def highest_unflagged(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the most probable finding of a complete study in which none is flagged; None of any other study."""
    findings = flagged_first(document["findings"])
    if document["ai_status"] != "complete" or not findings or findings[0]["flagged"]:
        return None
    return findings[0]


def flagged_first(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort findings: flagged before the rest, most probable first."""
    return sorted(findings, key=lambda finding: (not finding["flagged"], -finding["probability"]))


def named_percent(finding: dict[str, Any]) -> str:
    """Name a finding with its probability: `Pneumonia 91.4 %`."""
    return f"{finding_name(finding)} {percent(finding['probability'])}"


def finding_name(finding: dict[str, Any]) -> str:
    """Name a finding by the meaning of its code, else by its label."""
    code = finding.get("code")
    return str(code["meaning"]) if code else label_name(finding["label"])


def label_name(label: str) -> str:
    """Write a label as a word that may begin a line."""
    return label.replace("_", " ").capitalize()


def percent(probability: float) -> str:
    """Write a probability as a percentage that never rounds to certainty: `91.4 %`, `<0.1 %`, `>99.9 %`."""
    if probability < 0.0005:
        return f"<0.1{NARROW_SPACE}%"
    if probability >= 0.9995:
        return f">99.9{NARROW_SPACE}%"
    return f"{probability * 100:.1f}{NARROW_SPACE}%"
