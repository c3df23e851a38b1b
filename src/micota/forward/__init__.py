"""One forward pass of a model over given text: batches, negative log-likelihood, token ranks."""
