"""Where and when stages run: plan, execution, runners, rank processes, and the helpers that all stages use."""
