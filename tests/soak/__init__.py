"""Load, infer, unload, many times: a process that is replaced must give its memory back."""
