"""Plain vision transformers as chains of stages: DeiT, ViT, DINO and DINOv2, with timm's names of their weights.

Stage 0 is the normalised image. Stages 1 to 3 are the tokens after a quarter, half and three quarters of the blocks,
stage 4 what enters the attention of the last block, and stage 5 the end, after the final norm.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.component import known
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Asking,
    At,
    BlockAttention,
    Encoder,
    Keys,
    Map,
    Stage,
    unchanged,
)
from fcam_jax.models.layers import conv
from fcam_jax.models.positions import resampled
from fcam_jax.models.pretrained import Pretrained, Sized
from fcam_jax.models.tokens import Tokens
from fcam_jax.models.transformer import INIT, Block, layer_norm
from fcam_jax.models.weight_names import Names, Path, head_of_torch, of_torch, torch_name

_HALF = (127.5, 127.5, 127.5)
_EXTRA = ("extra_tokens", "extra_positions")  # of a method


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """What one published transformer is made of.

    Attributes:
      width: D, features of a token.
      heads: of the attention.
      grid: side, in patches, of the image that it was trained on.
      resampling: how its positional embeddings are brought to other grids, see `positions.resampled`.
      depth: number of blocks.
      registers: tokens beside the class token that have no position.
      layer_scale: whether branches have factors.
      mean: what is subtracted from RGB in [0, 255].
      std: what the difference is divided by.
    """

    width: int
    heads: int
    grid: int
    resampling: str
    depth: int = 12
    registers: int = 0
    layer_scale: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class PatchEmbed(nnx.Module):
    """A linear layer on every patch of the image, whose sides are filled up with zeros to whole patches."""

    def __init__(self, patch: int, width: int, **of_layers: Any):
        self.patch = patch
        self.proj = conv(3, width, patch, stride=patch, padding=0, bias=True, init=INIT, **of_layers)

    def __call__(self, images: Float[Array, "b y x 3"]) -> Float[Array, "b h w d"]:
        """A token for every patch."""
        missing = [(0, -side % self.patch) for side in images.shape[1:3]]
        return self.proj(jnp.pad(images, [(0, 0), *missing, (0, 0)]))


class ViT(Encoder):
    """A vision transformer without its classification layer.

    Its final stride is its patch. An image of other sides than whole patches gets zeros, the mean colour, on the right
    and below. The head sees the class token, and CAMs explain stage 4, as the patch tokens of the last block's end
    have no gradient then; or it sees the mean of the patch tokens, and CAMs explain them.

    Args:
      pool: what the head sees: the class token, "token", or the mean of the patch tokens, "mean".
      drop_path: share of the images of which, in training, a branch of the last block is left out; less in others.
      extra_tokens: tokens of a method's own, with their positions, after the registers.

    Raises:
      InputError: a setting is outside its range.

    Reference: Dosovitskiy et al., ICLR 2021 (ViT); Touvron et al., ICML 2021 (DeiT); Caron et al., ICCV 2021 (DINO);
      Oquab et al., TMLR 2024 (DINOv2); Darcet et al., ICLR 2024 (registers).
    """

    published_stride: ClassVar[int] = 16
    default_cam: ClassVar[str] = "gradcam"  # as the head sees the class token
    weight_names: ClassVar[tuple[Names, ...]] = (of_torch("timm's ViT", torch_name, "mask_token", added=_EXTRA),)
    head_names: ClassVar[Names | None] = head_of_torch("head")
    for_methods: ClassVar[tuple[str, ...]] = ("extra_tokens",)

    def __init__(
        self,
        design: Design,
        *,
        final_stride: int | None = None,
        pool: str = "token",
        drop_path: float = 0.0,
        extra_tokens: int = 0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        patch, width, depth = self.published_stride, design.width, design.depth
        if final_stride not in (None, patch):
            raise InputError(f"final_stride is {final_stride!r}; that of this transformer is its patch, {patch}")
        self.pool = pool
        known(self, pool=("token", "mean"))
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path is {drop_path}; it must be from 0 on and below 1")
        self.mean, self.std = design.mean, design.std
        self.design, self.dtype = design, dtype
        self.ends = (0, depth // 4, depth // 2, 3 * depth // 4, depth - 1)  # blocks before the end of stages 0 to 4
        self.channels, self.strides = (3, *[width] * 5), (1, *[patch] * 5)
        self.cam_stage, self.attention_blocks = 4 if pool == "token" else -1, depth

        of_layers: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.patch_embed = PatchEmbed(patch, width, **of_layers)
        self.cls_token = nnx.Param(INIT(rngs.params(), (1, 1, width), jnp.float32))
        self.pos_embed = nnx.Param(INIT(rngs.params(), (1, 1 + design.grid**2, width), jnp.float32))
        self.register_tokens: nnx.Param | None = nnx.data(None)
        if design.registers:
            self.register_tokens = nnx.Param(INIT(rngs.params(), (1, design.registers, width), jnp.float32))
        self.extra_tokens: nnx.Param | None = nnx.data(None)
        self.extra_positions: nnx.Param | None = nnx.data(None)
        if extra_tokens:
            self.new_layers = _EXTRA
            for name in self.new_layers:
                setattr(self, name, nnx.Param(INIT(rngs.params(), (1, extra_tokens, width), jnp.float32)))
        rates = np.linspace(0, drop_path, depth)
        of_blocks: dict[str, Any] = {"layer_scale": design.layer_scale, **of_layers}
        self.blocks = nnx.List([Block(width, design.heads, drop_path=float(rate), **of_blocks) for rate in rates])
        self.norm = layer_norm(width, **of_layers)

    def map_of(self, stage: Stage) -> Map:
        """The patch tokens, or the image."""
        return stage.patches if isinstance(stage, Tokens) else stage

    def with_map(self, stage: Stage, features: Map) -> Stage:
        return dataclasses.replace(stage, patches=features) if isinstance(stage, Tokens) else features

    def for_head(self, stage: Stage) -> Map:
        """The class token as a map of one cell, or the patch tokens."""
        return stage.prefix[:, None, :1] if self.pool == "token" else stage.patches

    def stage(self, index: int, x: Stage, *, train: bool, rng: Keys = None, at: At = unchanged) -> Stage:
        if index == 0:
            return at("image", x)
        last = len(self.blocks) - 1
        go_on = partial(self._block, train=train, rng=rng, at=at)
        if index == 5:
            tokens = self._end(go_on(last, x, x.residual, x.joined()))
            return self.with_map(tokens, at("norm", tokens.patches))
        tokens = self._embedded(x) if index == 1 else x
        for number in range(self.ends[index - 1], self.ends[index]):
            before = tokens.joined()
            tokens = go_on(number, tokens, before, self.blocks[number].norm1(before))
        if index < 4:
            return tokens
        before = tokens.joined()
        normed = tokens.refilled(self.blocks[last].norm1(before))
        patches = at(f"blocks.{last}.norm1", normed.patches)
        return dataclasses.replace(normed, patches=patches, residual=before)

    def attentions(
        self, images: Float[Array, "b y x 3"], head: Callable[[Map], Float[Array, "b k"]]
    ) -> Iterator[BlockAttention]:
        tokens = self._embedded(images)
        cells, others = tokens.patches[0, ..., 0].size, tokens.prefix.shape[1]
        patches = jnp.pad(jnp.full(cells, 1 / cells), (others, 0))
        read = jnp.eye(others + cells)[0] if self.pool == "token" else patches
        for number, block in enumerate(self.blocks):
            place, before = f"blocks.{number}.attn", tokens.joined()
            seen: dict[str, Array] = {}
            go_on = partial(self._block, number, tokens, before, block.norm1(before), train=False, rng=None)
            tokens = go_on(at=Asking(seen.setdefault, (place,)))
            yield BlockAttention(seen[place], partial(self._scores_with, place, go_on, head), read)

    def keys(self, stages: tuple[Stage, ...]) -> Map:
        """The patches' keys in the last block, all heads side by side; before it, stage 4 is."""
        before = stages[4].joined()
        _, keys, _ = self.blocks[-1].attn.split(before)
        return stages[4].refilled(keys.reshape(before.shape)).patches

    def _scores_with(
        self, place: str, go_on: Callable[..., Tokens], head: Callable[[Map], Array], given: Array
    ) -> Array:
        """Scores of the tokens of a block, as if it were the last one, with given matrices at its place."""
        end = self._end(go_on(at=Asking(lambda name, x: given if name == place else x, (place,))))
        return head(self.for_head(end))

    def resized(self, name: str, array: np.ndarray) -> np.ndarray:
        """Positions of another square of patches are resampled as ours are for images of other sides."""
        there, here = math.isqrt(array.shape[1]) if array.ndim == 3 else 0, self.design.grid
        if name != "pos_embed" or array.shape != (1, 1 + there**2, self.design.width) or there in (0, here):
            return array
        square = array[0, 1:].astype(np.float32).reshape(there, there, -1)
        patches = np.asarray(resampled(jnp.asarray(square), (here, here), self.design.resampling))
        return np.concatenate([array[:, :1], patches.reshape(1, here**2, -1)], axis=1)

    def _end(self, tokens: Tokens) -> Tokens:
        return tokens.refilled(self.norm(tokens.joined()))

    def _block(self, number: int, grid: Tokens, before: Array, normed: Array, *, at: At, **how: Any) -> Tokens:
        tokens = grid.refilled(self.blocks[number](before, normed, number, at=at, **how))
        return self.with_map(tokens, at(f"blocks.{number}", tokens.patches))

    def _embedded(self, images: Float[Array, "b y x 3"]) -> Tokens:
        """Patches, class token and tokens of a method with their positions, and registers, which have none."""
        patches = self.patch_embed(images)
        b, h, w, width = patches.shape
        side = self.design.grid
        positions = self.pos_embed[0]
        of_grid = resampled(positions[1:].reshape(side, side, width), (h, w), self.design.resampling)
        prefix = [self.cls_token[0] + positions[:1]]
        if self.register_tokens is not None:
            prefix.append(self.register_tokens[0])
        if self.extra_tokens is not None and self.extra_positions is not None:
            prefix.append(self.extra_tokens[0] + self.extra_positions[0])
        first = jnp.concatenate(prefix).astype(patches.dtype)
        return Tokens(patches + of_grid.astype(patches.dtype), jnp.broadcast_to(first, (b, *first.shape)))


class ViT8(ViT):
    """A vision transformer of patches of 8 pixels."""

    published_stride = 8


def _with_class_position(array: np.ndarray) -> np.ndarray:
    """The positions of a square of patches alone with a zero for the class token, in whose values its own is."""
    if array.ndim != 3 or array.shape[1] <= 4 or math.isqrt(array.shape[1]) ** 2 != array.shape[1]:
        return of_torch("").ours(array)
    return np.pad(array, [(0, 0), (1, 0), (0, 0)])


def _timm_name(path: Path) -> str:
    return "reg_token" if path == ("register_tokens",) else torch_name(path)


class DINOv2(ViT):
    """A vision transformer of patches of 14 pixels, with the names of Meta's files."""

    published_stride = 14
    weight_names = (
        of_torch("DINOv2's files", torch_name, "mask_token", added=_EXTRA),
        dataclasses.replace(of_torch("timm's DINOv2", _timm_name, added=_EXTRA), ours=_with_class_position),
    )


def _published(
    kind: type[ViT], heads: int, grid: int, resampling: str, timm: str, classes: int = 1000, **more: Any
) -> Sized:
    design = Design(width=64 * heads, heads=heads, grid=grid, resampling=resampling, **more)
    weights = Pretrained(f"timm:{timm}", "Apache-2.0", grid * kind.published_stride, classes)
    return Sized(kind, design, pretrained=(weights,))


_TINY, _SMALL, _BASE = 3, 6, 12  # heads
_OF_VIT: dict[str, Any] = {"mean": _HALF, "std": _HALF}
_DINO: dict[str, Any] = {"classes": 0}
_DINOV2: dict[str, Any] = {"classes": 0, "layer_scale": True}
_REGISTERS = {**_DINOV2, "registers": 4}

# DINO's and DINOv2's by their names in torch.hub.
VITS: dict[str, Callable[..., Encoder]] = {
    "deit_tiny": _published(ViT, _TINY, 14, "size", "deit_tiny_patch16_224.fb_in1k"),
    "deit_small": _published(ViT, _SMALL, 14, "size", "deit_small_patch16_224.fb_in1k"),
    "deit_base": _published(ViT, _BASE, 14, "size", "deit_base_patch16_224.fb_in1k"),
    "vit_tiny": _published(ViT, _TINY, 14, "antialias", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", **_OF_VIT),
    "vit_small": _published(ViT, _SMALL, 14, "antialias", "vit_small_patch16_224.augreg_in21k_ft_in1k", **_OF_VIT),
    "vit_base": _published(ViT, _BASE, 14, "antialias", "vit_base_patch16_224.augreg_in21k_ft_in1k", **_OF_VIT),
    "dino_vits16": _published(ViT, _SMALL, 14, "offset", "vit_small_patch16_224.dino", **_DINO),
    "dino_vits8": _published(ViT8, _SMALL, 28, "offset", "vit_small_patch8_224.dino", **_DINO),
    "dino_vitb16": _published(ViT, _BASE, 14, "offset", "vit_base_patch16_224.dino", **_DINO),
    "dinov2_vits14": _published(DINOv2, _SMALL, 37, "offset", "vit_small_patch14_dinov2.lvd142m", **_DINOV2),
    "dinov2_vitb14": _published(DINOv2, _BASE, 37, "offset", "vit_base_patch14_dinov2.lvd142m", **_DINOV2),
    "dinov2_vits14_reg": _published(
        DINOv2, _SMALL, 37, "antialias", "vit_small_patch14_reg4_dinov2.lvd142m", **_REGISTERS
    ),
    "dinov2_vitb14_reg": _published(
        DINOv2, _BASE, 37, "antialias", "vit_base_patch14_reg4_dinov2.lvd142m", **_REGISTERS
    ),
}
