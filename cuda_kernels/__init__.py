"""Array operations: reference, numba CPU kernel, numba CUDA kernel and launcher, one per file."""
