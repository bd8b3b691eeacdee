"""Intake: what lies in the spool becomes rows and owed work."""
