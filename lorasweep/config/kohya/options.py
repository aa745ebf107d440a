"""What becomes of every option of sd-scripts' LoRA training: data, no logic.

    TRANSLATED   option -> what its value must be, and the recipe keys that it decides
    UNSUPPORTED  option -> why it has no counterpart; `network_args.rank_dropout` is one inside network_args
    HARMLESS     option -> why leaving it out changes nothing that is learned

An option that is in none of them is unknown to sd-scripts' LoRA training (or newer than this list).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorasweep.config.importing.draft import Option, Table


def _row(kind: type, *keys: str, **more: Any) -> Option:
    return Option(kind, keys, **more)


def _same(value: Any) -> Any:
    return value


def _spaced(separator: str) -> str:
    return f"{separator} " if separator == separator.strip() else separator


def _by_option(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reason -> options becomes option -> reason."""
    return {option: reason for reason, options in reasons.items() for option in options.split()}


MOST_PX = 16384  # beyond any picture; buckets are counted up to it

TRANSLATED: dict[str, Option] = {
    # the base
    "pretrained_model_name_or_path": _row(str, "base", "base.path"),
    "v_parameterization": _row(bool, "base.prediction_type", default=False),
    "clip_skip": _row(int, "base.clip_skip", default=1, low=1, zero_is_unset=True, convert=_same),
    "resolution": _row(str, "base.resolution", "buckets.sizes"),
    "bucket_reso_steps": _row(int, "base.bucket_step", default=64, low=1, high=MOST_PX),
    # buckets
    "enable_bucket": _row(bool, "buckets", default=False),
    "min_bucket_reso": _row(int, "buckets.min_side", default=256, low=1, high=MOST_PX),
    "max_bucket_reso": _row(int, "buckets.max_side", default=1024, low=1, high=MOST_PX),
    "bucket_no_upscale": _row(bool, "buckets.upscale", default=False),
    # images
    "dataset_config": _row(str, "dataset.path"),
    "train_data_dir": _row(str, "dataset", "dataset.path"),
    "image_dir": _row(str, "dataset", "dataset.path"),
    "num_repeats": _row(int, "dataset.repeats", default=1),
    "dataset_repeats": _row(int, "dataset.repeats", default=1),
    "validation_split": _row(float, "dataset.holdout", default=0.0, low=0, high=1),
    "validation_seed": _row(int, "dataset.holdout_seed"),
    # captions
    "class_tokens": _row(str, "dataset.path"),
    "caption_prefix": _row(str, "captions.trigger"),
    "caption_extension": _row(str, "captions.extension", default=".caption"),
    "caption_extention": _row(str, "captions.extension"),
    "caption_separator": _row(str, "captions.separator", default=",", convert=_spaced),
    "shuffle_caption": _row(bool, "captions.shuffle", default=False, convert=_same),
    "keep_tokens": _row(int, "captions.keep_tokens", default=0, low=0, convert=_same),
    "caption_dropout_rate": _row(float, "captions.dropout", default=0.0, low=0, high=1, convert=_same),
    "caption_tag_dropout_rate": _row(float, "captions.tag_dropout", default=0.0, low=0, high=1, convert=_same),
    # the network
    "network_module": _row(str, "adapter"),
    "network_dim": _row(int, "adapter.dim", default=4, low=1),
    "network_alpha": _row(float, "adapter.alpha", default=1.0, low=0),
    "network_dropout": _row(float, "adapter.dropout", low=0, high=1),
    "network_args": _row(list, "adapter", "adapter.conv_dim", "adapter.conv_alpha", "adapter.unit", "adapter.factor"),
    "network_train_unet_only": _row(bool, "adapter.text_encoder", default=False),
    # the optimizer
    "optimizer_type": _row(str, "optimizer", default="AdamW"),
    "use_8bit_adam": _row(bool, "optimizer", default=False),
    "use_lion_optimizer": _row(bool, "optimizer", default=False),
    "optimizer_args": _row(list, "optimizer.betas", "optimizer.weight_decay", "optimizer.eps", "optimizer.d_coef"),
    "learning_rate": _row(float, "optimizer.lr", "optimizer.text_encoder_lr", default=2e-6, low=0),
    "unet_lr": _row(float, "optimizer.lr", low=0),
    "text_encoder_lr": _row(float, "optimizer.text_encoder_lr", low=0),
    "lr_scheduler": _row(str, "scheduler", default="constant"),
    "lr_scheduler_type": _row(str, "scheduler"),
    "lr_scheduler_args": _row(list, "scheduler.gamma", "scheduler.min_lr", "scheduler.num_cycles"),
    "lr_warmup_steps": _row(float, "scheduler.warmup", default=0, low=0),
    "warmup_ratio": _row(float, "scheduler.warmup", low=0, high=1, zero_is_unset=True),
    "lr_scheduler_num_cycles": _row(int, "scheduler.num_cycles", default=1, low=1, zero_is_unset=True),
    "lr_scheduler_power": _row(float, "scheduler", default=1.0, zero_is_unset=True),
    "lr_scheduler_min_lr_ratio": _row(float, "scheduler.min_lr", low=0),
    # the budget and the numerics
    "max_train_steps": _row(int, "train.max_steps", default=1600, low=1, zero_is_unset=True),
    "max_train_epochs": _row(int, "train.epochs", low=1, zero_is_unset=True),
    "train_batch_size": _row(int, "train.batch_size", default=1, low=1),
    "batch_size": _row(int, "train.batch_size", low=1),
    "gradient_accumulation_steps": _row(
        int, "train.gradient_accumulation", default=1, low=1, zero_is_unset=True, convert=_same
    ),
    "max_grad_norm": _row(float, "train.max_grad_norm", default=1.0, low=0, convert=_same),
    "min_snr_gamma": _row(float, "train.min_snr_gamma", low=0, zero_is_unset=True, convert=_same),
    "noise_offset": _row(float, "train.noise_offset", default=0.0, low=0, convert=_same),
    "mixed_precision": _row(str, "train.precision", default="no"),
    "seed": _row(int, "seed"),
    # brakes
    "scale_weight_norms": _row(
        float, "regularization", "regularization.scale_norm.max_norm", low=0, zero_is_unset=True
    ),
    "reg_data_dir": _row(str, "regularization", "regularization.reg_images.path"),
    "is_reg": _row(bool, "regularization", "regularization.reg_images.path"),
    "prior_loss_weight": _row(float, "regularization.reg_images.prior_loss_weight", default=1.0, low=0),
}

# Arguments inside network_args and lr_scheduler_args; those of optimizers are beside the optimizers.
ARGUMENTS: dict[str, Option] = {
    "network_args.algo": _row(str, default="lora"),
    "network_args.preset": _row(str, default="full"),
    "network_args.conv_dim": _row(int, low=0),
    "network_args.conv_alpha": _row(float, low=0),
    "network_args.dropout": _row(float, low=0, high=1),
    "network_args.unit": _row(int, default=1, low=1),
    "network_args.block_size": _row(int, default=4, low=1),
    "network_args.factor": _row(int, default=-1),
    "network_args.decompose_both": _row(bool, default=False),
    "network_args.dora_wd": _row(bool),
    "network_args.wd_on_output": _row(bool),
    "lr_scheduler_args.cycle_mult": _row(float, default=1.0),
    "lr_scheduler_args.cycle_multiplier": _row(float, default=1.0),
    "lr_scheduler_args.gamma": _row(float, default=0.9),
    "lr_scheduler_args.min_lr": _row(float, default=1e-6),
    "lr_scheduler_args.warmup_steps": _row(int, default=0, low=0),
    "lr_scheduler_args.first_cycle_steps": _row(int, low=1),
    "lr_scheduler_args.first_cycle_max_steps": _row(int, low=1),
}

DEFAULTS: dict[str, Any] = {name: option.default for name, option in TRANSLATED.items() if option.default is not None}

# What may stand in a dataset file.
OF_DATASETS = frozenset(
    """
    resolution batch_size enable_bucket bucket_reso_steps min_bucket_reso max_bucket_reso bucket_no_upscale
    image_dir num_repeats is_reg class_tokens validation_split validation_seed network_multiplier
    caption_extension caption_separator caption_prefix caption_suffix shuffle_caption keep_tokens
    keep_tokens_separator secondary_separator enable_wildcard caption_dropout_rate caption_tag_dropout_rate
    caption_dropout_every_n_epochs token_warmup_min token_warmup_step color_aug flip_aug random_crop
    face_crop_aug_range resize_interpolation alpha_mask metadata_file conditioning_data_dir custom_attributes
    cache_info
    """.split()
)

UNSUPPORTED: dict[str, str] = _by_option(
    {
        "images are trained on as they are; their latents are cached": "color_aug",
        "images are not mirrored: a character's hair and marks have sides": "flip_aug",
        "crops are centred, and `lorasweep plan` shows them": "face_crop_aug_range random_crop",
        "images are resized with Lanczos": "resize_interpolation",
        "images with one metadata file are not read; captions are files beside the images": "in_json metadata_file",
        "there are no masks or control images": "conditioning_data_dir",
        "there are no masks: the loss is over the whole picture": "masked_loss alpha_mask train_inpainting",
        "an adapter trains at weight 1": "network_multiplier",
        "images have no attributes besides their caption": "custom_attributes",
        "a recipe is data, never code": "dataset_class",
        "tags are not added at the end": "caption_suffix",
        "captions.dropout is a share of exposures, the same in every epoch": "caption_dropout_every_n_epochs",
        "captions.keep_tokens counts tags": "keep_tokens_separator",
        "there is one separator": "secondary_separator",
        "captions are read as they are": "enable_wildcard",
        "all tags are there from the first step": "token_warmup_step",
        "(tag:1.2) is read as text, not as a weight": "weighted_captions",
        "captions are cut at the text encoder's own 75 tokens": "max_token_length",
        "an adapter starts from the recipe's seed, never from a file": "network_weights dim_from_weights",
        "merge them into the base first, and give that as base.path": "base_weights base_weights_multiplier",
        "the UNet is always trained": "network_train_text_encoder_only",
        "the VAE is the base's own; save base and VAE as one folder": "vae",
        "base.path says what the base is; `lorasweep plan` says whether it can be trained": "sdxl",
        "the text encoder trains to the end or not at all": "stop_text_encoder_training",
        "flags of a command line are not read: write them as options": "additional_parameters",
        "no schedule has a stretch of decay of its own": "lr_decay_steps",
        "inverse square-root curves are not there": "lr_scheduler_timescale",
        "only optimizer=schedule_free_adamw averages its iterates": """
            optimizer_schedulefree_wrapper schedulefree_wrapper_args
        """,
        "the noise offset has one strength": "noise_offset_random_strength adaptive_noise_scale",
        "pyramid noise is not there": "multires_noise_iterations",
        "Perlin noise is not there": "perlin_noise",
        "input perturbation is not there": "ip_noise_gamma",
        "the noise schedule is as the base's own files say": "zero_terminal_snr",
        "timesteps are drawn from all of them": "min_timestep max_timestep",
        "the loss is the squared error": "loss_type",
        "the loss is not rescaled, but for train.min_snr_gamma": """
            scale_v_pred_loss_like_noise_pred v_pred_like_loss debiased_estimation_loss
        """,
        "adapters always train in fp32": "full_fp16 full_bf16",
        "the frozen base is fp32, fp16 or bf16": "fp8_base fp8_base_unet",
        "a kohya state cannot be continued; lorasweep continues its own runs": "resume initial_epoch initial_step",
        "only inputs are dropped, with adapter.dropout": "network_args.rank_dropout network_args.module_dropout",
        "there is one rank for all blocks, and one for the convolutions": """
            network_args.block_dims network_args.block_alphas network_args.conv_block_dims
            network_args.conv_block_alphas
        """,
        "there is one learning rate for the whole UNet": """
            network_args.down_lr_weight network_args.mid_lr_weight network_args.up_lr_weight
            network_args.block_lr_zero_threshold
        """,
        "LoRA+ is not there: both factors have one learning rate": """
            network_args.loraplus_lr_ratio network_args.loraplus_unet_lr_ratio
            network_args.loraplus_text_encoder_lr_ratio
        """,
        "convolutions are not Tucker-decomposed; kernels are flattened": """
            network_args.use_tucker network_args.use_cp network_args.use_conv_cp
        """,
        "there is no trained scalar beside the factors": "network_args.use_scalar",
        "the scale is alpha / dim; give alpha = dim ** 0.5 * your alpha for the same at the start": """
            network_args.rs_lora
        """,
        "norms are not trained": "network_args.train_norm",
        "a LoKr's larger matrix is whole only where its sides are small": "network_args.full_matrix",
        "that is how the layers compute, not what": "network_args.bypass_mode",
    }
)

# A value that switches an unsupported option off, where that is not false, 0, "" or nothing.
OFF: dict[str, Any] = {
    "loss_type": "l2",
    "max_timestep": 1000,
    "max_token_length": 75,
    "network_multiplier": 1.0,
    "resize_interpolation": "lanczos",
}

# Options of sd-scripts' other trainers: with one of them the base is no Stable Diffusion 1.x or 2.x.
OTHER_BASES: dict[str, str] = {
    "ae": "Flux or Lumina",
    "clip_l": "Flux or SD3",
    "clip_g": "SD3",
    "t5xxl": "Flux or SD3",
    "gemma2": "Lumina",
    "qwen3": "Anima",
    "byt5": "HunyuanImage",
}

HARMLESS: dict[str, str] = _by_option(
    {
        "memory and speed only": """
            xformers sdpa mem_eff_attn gradient_checkpointing cpu_offload_checkpointing lowram highvram
            torch_compile dynamo_backend blocks_to_swap fused_backward_pass no_half_vae vae_batch_size
            max_data_loader_n_workers persistent_data_loader_workers ddp_timeout ddp_gradient_as_bucket_view
            ddp_static_graph disable_mmap_load_safetensors text_encoder_batch_size deepspeed zero_stage
            offload_optimizer_device offload_optimizer_nvme_path offload_param_device
            offload_param_nvme_path zero3_init_flag zero3_save_16bit_model fp16_master_weights_and_gradients
            tokenizer_cache_dir
        """,
        "lorasweep caches by content, by itself": """
            cache_latents cache_latents_to_disk cache_text_encoder_outputs
            cache_text_encoder_outputs_to_disk cache_info skip_cache_check
        """,
        "lorasweep keeps every rung and `lorasweep export` writes the file": """
            output_dir output_name save_model_as save_precision save_every_n_epochs save_every_n_steps
            save_n_epoch_ratio save_last_n_epochs save_last_n_epochs_state save_last_n_steps
            save_last_n_steps_state save_state save_state_on_train_end use_safetensors no_metadata
            training_comment metadata_title metadata_author metadata_description metadata_license
            metadata_tags metadata_usage_hint metadata_thumbnail metadata_merged_from
            metadata_trigger_phrase metadata_preprocessor metadata_is_negative_embedding async_upload
            huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token
            huggingface_repo_visibility save_state_to_huggingface resume_from_huggingface
            skip_until_initial_step
        """,
        "lorasweep logs to run folders and MLflow": """
            logging_dir log_with log_prefix log_tracker_name log_tracker_config log_config wandb_run_name
            wandb_api_key console_log_level console_log_file console_log_simple
        """,
        "lorasweep draws its own pictures at LoRA weight 0.7, see dataset.prompts and sample.*": """
            sample_every_n_steps sample_at_first sample_every_n_epochs sample_prompts sample_sampler
        """,
        "lorasweep judges at every rung by itself": """
            validate_every_n_steps validate_every_n_epochs max_validation_steps
        """,
        "read from the base's own files": "v2",
        "only read together with an option that is listed, or not given": """
            token_warmup_min multires_noise_discount huber_schedule huber_c huber_scale
            ip_noise_gamma_random_strength weighting_scheme logit_mean logit_std mode_scale
        """,
        "a switch of the program, not of the training": "config_file output_config debug_dataset",
        "a field of the window that wrote the file; sd-scripts does not read it": """
            epoch noise_offset_type name easy_name tag_occurrence tag_file_location save_toml
            save_toml_location train_mode
        """,
    }
)

TABLE = Table(
    trainer="sd-scripts' LoRA training",
    translated=TRANSLATED | ARGUMENTS,
    unsupported=UNSUPPORTED,
    off=OFF,
    harmless=HARMLESS,
)
