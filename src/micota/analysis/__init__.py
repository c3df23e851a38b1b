"""Analysis of stored rows without a model: statistics, lengths, gaps, likelihood, learnability, token shifts."""
