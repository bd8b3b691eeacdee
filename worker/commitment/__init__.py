"""Storage commitment (PS3.4 Annex J), both ways: the message, what comes in, what is asked and what is answered."""
