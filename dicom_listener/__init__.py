"""The Application Entity that modalities push to."""
