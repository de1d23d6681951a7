"""Stage 2 on features that were computed before: the very steps that it takes when it computes them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_stages import BATCH, STAGES, TOKENS, batch, fcam, optimizer

from fcam_jax.cams import CAMS
from fcam_jax.losses import Entropy, Reconstruction, Weighted
from fcam_jax.models.decoder import Decoder
from fcam_jax.training.placed import Placed, data_mesh, replicate, spread
from fcam_jax.training.step import initial_state, make_train_step

METHOD = STAGES["fcam"].method


def with_image():
    model = fcam()
    model.decoder = Decoder((4, 6, 8), (2, 4, 4), (6, 4, 4), reconstruction=True, rngs=nnx.Rngs(2))
    return model


def method(cam="cam", **terms):
    terms = {name: Weighted(term, 0.1) for name, term in terms.items()}
    alignment = dataclasses.replace(METHOD.alignment, terms={**METHOD.alignment.terms, **terms})
    return dataclasses.replace(METHOD, cam=CAMS[cam](), alignment=alignment)


CASES = {
    "decoder": (fcam, method("layercam")),
    "scores and image": (with_image, method(entropy=Entropy(), reconstruction=Reconstruction())),
    "tokens": (TOKENS.model, TOKENS.method),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_steps_on_kept_features_are_those_that_compute_them(case):
    build, how = CASES[case]
    mesh, rule = data_mesh(BATCH), optimizer(METHOD)
    model = build()
    placed = Placed.split(model, how, mesh)
    features = placed.replicated().forward(how.features)

    def trained(kept):
        state = initial_state(Placed.split(build(), how, mesh), rule)
        step = make_train_step(placed, how, rule)
        figures = []
        for number in range(3):
            given = batch(number)
            if kept:  # as from a file
                there = jax.tree.map(np.asarray, features(placed.replicated(), given))
                given = dataclasses.replace(given, features=there)
            state, found = step(state, spread(given, mesh), replicate(jax.random.key(7), mesh))
            figures.append(jax.device_get(found))
        return jax.device_get((state, figures))

    (one, figures), (same, others) = trained(False), trained(True)
    for name in ("loss", *how.alignment.active):  # features, seeds, loss: to the last bit
        assert figures[0][name] == others[0][name]
    # Gradients are rounded otherwise, as those of another compiled program.
    for a, b in zip(jax.tree.leaves((one, figures)), jax.tree.leaves((same, others)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_is_taken_is_what_the_decoder_looks_at_but_not_the_image():
    assert fcam().decoder.takes == (0, 1, 2)
    model = TOKENS.model()
    assert model.decoder.takes == (0, 1, 2, 3, 5)
    stages = [jnp.full((1, 2, 2, 1), float(index)) for index in range(6)]
    assert {index: float(x[0, 0, 0, 0]) for index, x in model.taken(tuple(stages)).items()} == {1: 1, 2: 2, 3: 3, 5: 5}
