"""What the tiny pipelines of Stable Diffusion's kind have in common: a few thousand random weights, and no checker."""


def parts(in_channels: int = 4) -> dict:
    """The parts that every such pipeline has; `in_channels` of its U-Net. Images have 32 pixels, latents 16."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel

    sizes = dict(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **sizes)
    unet = UNet2DConditionModel(
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
    return dict(vae=vae, unet=unet, scheduler=scheduler, safety_checker=None, requires_safety_checker=False)
