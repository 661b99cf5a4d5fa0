"""What the service talks about: studies, jobs, results, models; no framework."""
