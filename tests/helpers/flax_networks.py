"""Small networks of a user, as they come: NNX and Linen, convolutions and tokens, images and volumes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

CLASSES = 5


def pictures(count=3, shape=(32, 32, 3), seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


class Block(nnx.Module):
    def __init__(self, ins, outs, rngs):
        self.conv = nnx.Conv(ins, outs, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(outs, rngs=rngs)
        self.norm.mean[...] = 0.1 * jnp.arange(outs)
        self.norm.var[...] = 0.5 + 0.1 * jnp.arange(outs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)))


class CNN(nnx.Module):
    traced = 0

    def __init__(self, seed=0, channels=3):
        rngs = nnx.Rngs(seed)
        self.stem = Block(channels, 4, rngs)
        self.blocks = nnx.List([Block(4, 6, rngs), Block(6, 8, rngs)])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.unused = nnx.Linear(8, 8, rngs=rngs)
        self.fc = nnx.Linear(8, CLASSES, rngs=rngs)

    def head(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x

    def tail(self, x):
        return self.fc(self.drop(x.mean(axis=(1, 2))))

    def __call__(self, x):
        CNN.traced += 1
        return self.tail(self.head(x))


class LinenBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.width, (3, 3), strides=2)(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train)(x))


class LinenCNN(nn.Module):
    block: type = LinenBlock

    @nn.compact
    def __call__(self, x, train=True):
        x = self.block(6, name="first")(x, train)
        x = self.block(8, name="second")(x, train)
        x = nn.Dropout(0.5, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(CLASSES, name="fc")(x)


@functools.cache
def linen_cnn(seed=0, block=LinenBlock):
    module = LinenCNN(block)
    variables = jax.jit(functools.partial(module.init, train=False))(jax.random.key(seed), pictures())
    statistics = jax.tree.map(lambda leaf: leaf + 0.1 * np.arange(leaf.size), variables["batch_stats"])
    return module, {**variables, "batch_stats": statistics}


class TokenBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = (nnx.LayerNorm(16, rngs=rngs) for _ in range(2))
        self.attn = nnx.MultiHeadAttention(2, 16, decode=False, rngs=rngs)
        self.mlp = nnx.Linear(16, 16, rngs=rngs)

    def after_norm(self, x, normed):
        x = x + self.attn(normed)
        return x + nnx.gelu(self.mlp(self.norm2(x)))

    def __call__(self, x):
        return self.after_norm(x, self.norm1(x))


class ViT(nnx.Module):
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.patches = nnx.Conv(3, 16, (8, 8), strides=8, rngs=rngs)
        self.token = nnx.Param(jax.random.normal(jax.random.key(seed), (1, 1, 16)))
        self.places = nnx.Param(jax.random.normal(jax.random.key(seed + 1), (1, 17, 16)))
        self.blocks = nnx.List([TokenBlock(rngs) for _ in range(2)])
        self.fc = nnx.Linear(16, CLASSES, rngs=rngs)

    def head(self, x):
        x = self.patches(x).reshape(len(x), -1, 16)
        x = jnp.concatenate([jnp.tile(self.token[...], (len(x), 1, 1)), x], axis=1) + self.places[...]
        return self.blocks[0](x)

    def __call__(self, x):
        return self.fc(self.blocks[1](self.head(x))[:, 0])


class Volumes(nn.Module):
    """Of grey volumes."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3, 3), 2, name="one")(x))
        x = nn.relu(nn.Conv(6, (3, 3, 3), 2, name="two")(x))
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2, 3)))
