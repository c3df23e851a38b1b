"""Extract answers from completions and compare them with the gold. No model output is ever evaluated as code."""
