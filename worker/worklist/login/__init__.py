"""The door of the worklist: who asks, what they may see, and what is written down of it."""
