"""The commands of `firstread`, one file a kind; thin doors into the rooms."""
