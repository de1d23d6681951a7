import jax.numpy as jnp
import numpy as np

from fcam_jax.losses.reconstruction import reconstruction_error


def test_it_is_the_mean_squared_error_to_the_image_in_the_unit_range():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    given = rng.uniform(size=image.shape).astype(np.float32)
    expected = [np.mean((a.astype(np.float64) - b / 255.0) ** 2) for a, b in zip(given, image, strict=True)]
    np.testing.assert_allclose(reconstruction_error(jnp.asarray(given), jnp.asarray(image)), expected, rtol=1e-6)
    np.testing.assert_allclose(
        reconstruction_error(jnp.asarray(image / 255, jnp.float32), jnp.asarray(image)), 0, atol=1e-12
    )
