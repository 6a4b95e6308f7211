"""Small real models with random weights, in the folder formats of the full-size ones."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from facesyn.atd import ATDPipeline, StyleEncoder
from facesyn.training.schedule import new_scheduler
from facesyn.training.tokenizer import train_tokenizer

WIDTH = 32


def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(["frontal portrait of a 30 year old woman, oval face"] * 4, vocabulary_size=600)


def text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def vae(size: int = 64) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=size,
    )


def new_unet(**parts: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, **parts
    )


def sd15(folder: Path) -> Path:
    """A Stable Diffusion 1.5-shaped folder with `controlnet/` beside its parts; pictures of 64 pixels."""
    torch.manual_seed(0)
    words = tokenizer()
    unet = new_unet(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )
    pipeline = StableDiffusionControlNetPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(words)),
        tokenizer=words,
        unet=unet,
        controlnet=awake(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 8))),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def sdxl(folder: Path) -> Path:
    """An SDXL-shaped folder with `controlnet/` beside its parts; pictures of 64 pixels."""
    torch.manual_seed(0)
    words = tokenizer()
    unet = new_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )
    pipeline = StableDiffusionXLControlNetPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(words)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(words)),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        controlnet=awake(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 8))),
        scheduler=EulerDiscreteScheduler(),
    )
    pipeline.save_pretrained(folder)
    return folder


def awake(controlnet: ControlNetModel) -> ControlNetModel:
    """A fresh ControlNet ends in zero convolutions and changes nothing; random ones make it matter."""
    zeros = (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block)
    for layer in (*zeros, controlnet.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return controlnet


def atd(grid: int = 3, layout_channels: int = 0) -> ATDPipeline:
    torch.manual_seed(0)
    unet = new_unet(
        in_channels=8 + layout_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=16,
    )
    style_encoder = StyleEncoder(
        4, width=16, depth=1, grid=grid, token_dim=WIDTH, vector_dim=16, layout_channels=layout_channels
    )
    pipeline = ATDPipeline(vae(), unet, style_encoder, new_scheduler())
    for module in (pipeline.vae, pipeline.unet, pipeline.style_encoder):
        module.eval()
    return pipeline
