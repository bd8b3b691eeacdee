"""An evaluation as a page that a radiologist reads: one HTML file that opens from a disk and fetches nothing."""

from models.training.report.page import Report, render

__all__ = ["Report", "render"]
