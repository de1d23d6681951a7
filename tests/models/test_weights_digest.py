"""The checksum of weights."""

from flax import nnx

from fcam_jax.models.import_weights import weights_digest


def test_the_digest_follows_every_weight():
    first, second = (nnx.Linear(3, 2, rngs=nnx.Rngs(0)) for _ in range(2))
    assert weights_digest(first) == weights_digest(second)
    second.bias[...] = second.bias[...].at[1].set(1e-20)
    assert weights_digest(first) != weights_digest(second)
