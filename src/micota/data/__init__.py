"""Training data: problem sources, prompts, filters, decontamination, mixtures, data cards, upload to the hub."""
