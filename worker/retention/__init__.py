"""Retention: stored bytes that nobody needs any more are removed; rows and reports stay and say so."""
