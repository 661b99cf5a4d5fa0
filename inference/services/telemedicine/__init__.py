"""Telemedicine: peer review codes and the work item state machine."""
