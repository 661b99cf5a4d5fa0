"""Medication: schedules, adherence, interactions."""
