"""The worker: intake, inference, reporting, worklist and audit; `pipeline.py` tells the story."""
