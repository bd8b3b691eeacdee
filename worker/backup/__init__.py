"""Backup and restore: rows, bytes and reports out of a running installation, verified, and back into an empty one."""
