"""Pure functions: clinical formulas and tables, each with its source."""
