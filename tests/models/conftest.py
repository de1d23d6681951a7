"""Networks with random values at once, as a fixture."""

import filled as helper
import pytest


@pytest.fixture(scope="session")
def filled():
    """From a function that builds a module to that module with random kernels, as initialised otherwise."""
    return helper.filled
