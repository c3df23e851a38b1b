"""Whether an answer is the gold, by the type of the gold."""
