"""Inference: pixels, probabilities, triage."""
