"""Where and when stages run: plan, execution, runners, rank processes, and what stages share while they run."""
