"""How loops over pixels are compiled: once for all runs, and without the interpreter lock, so that threads share."""

import numba

# A function needs `no_type_check` too: the shape checker of the tests would wrap it, and numba could not compile it.
compiled = numba.njit(cache=True, nogil=True)
