"""The two stages at a tiny size, as fixtures."""

import types

import pytest
from tiny_stages import STAGES, TOKENS, optimizer


@pytest.fixture(params=sorted(STAGES))
def stage(request):
    """Model, method and optimiser of each stage in turn."""
    found = STAGES[request.param]
    return types.SimpleNamespace(
        name=request.param, model=found.model(), method=found.method, optimizer=optimizer(found.method)
    )


@pytest.fixture
def fcam_stage():
    """Model, method and optimiser of the second stage."""
    found = STAGES["fcam"]
    return types.SimpleNamespace(
        name="fcam", model=found.model(), method=found.method, optimizer=optimizer(found.method)
    )


@pytest.fixture
def token_stage():
    """Model, method and optimiser of the second stage on a transformer."""
    return types.SimpleNamespace(
        name="tokens", model=TOKENS.model(), method=TOKENS.method, optimizer=optimizer(TOKENS.method)
    )
