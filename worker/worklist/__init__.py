"""The reading worklist: a page, a JSON interface, probes and metrics."""
