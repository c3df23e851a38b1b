"""MiCoTA: teach small language models to reason, by distillation through a merged teacher assistant."""

__version__ = "0.1.0"
