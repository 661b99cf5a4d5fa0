"""Schema history; run at start by ``inference.storage.migrate``."""
