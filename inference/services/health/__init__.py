"""Health management: risk, activity, diet."""
