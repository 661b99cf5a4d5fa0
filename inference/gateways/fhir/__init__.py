"""FHIR R4: what clinfer holds, to read, to search, and to be sent on."""
