"""What stored rows say, read without a model: statistics, lengths, gaps, likelihood, learnability, token shifts."""
