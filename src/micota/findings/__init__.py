"""What stored rows say, read without a model: likelihood, length, shifts of tokens, gaps, learnability."""
