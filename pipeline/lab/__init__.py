"""Many trainings for one question: which there are, how each is trained once, and what they say together."""
