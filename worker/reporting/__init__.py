"""Reporting: what a result looks like outside, and its delivery."""
