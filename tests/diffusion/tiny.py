"""Tiny networks: our own U-Net, and pipelines of Stable Diffusion's kind, with a few thousand random weights."""

from synpos_lib.diffusion.unet import UNetConfig

SMALLEST = dict(channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4, dropout=0.0)


def unet(**changes) -> UNetConfig:
    """Two levels, no attention, no dropout."""
    return UNetConfig(**SMALLEST | changes)


def parts(in_channels: int = 4) -> dict:
    """The parts that every such pipeline has; `in_channels` of its U-Net. Images have 32 pixels, latents 16."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel

    sizes = dict(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **sizes)
    network = UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        **sizes,
    )
    scheduler = PNDMScheduler(skip_prk_steps=True)
    return dict(vae=vae, unet=network, scheduler=scheduler, safety_checker=None, requires_safety_checker=False)


def clip():
    """A CLIP that sees 24 pixels, as image_encoder."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = dict(hidden_size=16, projection_dim=16, intermediate_size=16, patch_size=8, image_size=24)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(num_attention_heads=2, num_hidden_layers=1, **sizes))


def eyes():
    """What prepares pictures for it."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size=24, crop_size=24)
