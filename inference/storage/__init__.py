"""Studies, jobs, results, deliveries and the audit trail in one database; files by hash."""
