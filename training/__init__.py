"""Data, fit, evaluate, export: ends by writing a model_repo entry."""
