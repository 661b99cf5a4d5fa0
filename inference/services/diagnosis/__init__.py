"""Diagnosis support: pharmacogenomics, polygenic scores, triage tables."""
