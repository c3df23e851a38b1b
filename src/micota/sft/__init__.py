"""Supervised fine-tuning: the data of each step, loss, optimiser and schedule."""
