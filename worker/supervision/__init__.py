"""Supervision: every service on this machine, started, watched, restarted, drained; and the embedded Redis."""
