"""What becomes of every option of sd-scripts' LoRA training: data, no logic.

    TRANSLATED   option -> the recipe keys that it decides
    DEFAULTS     what sd-scripts takes when a translated option is not given
    UNSUPPORTED  option -> why it has no counterpart; UNSUPPORTED_NETWORK_ARGS: the same inside network_args
    HARMLESS     option -> why leaving it out changes nothing that is learned

An option that is in none of them is unknown to sd-scripts' LoRA training (or newer than this list).
"""

from __future__ import annotations

from typing import Any

TRANSLATED: dict[str, tuple[str, ...]] = {
    # the base
    "pretrained_model_name_or_path": ("base", "base.path"),
    "clip_skip": ("base.clip_skip",),
    "resolution": ("base.resolution", "buckets.sizes"),
    "bucket_reso_steps": ("base.bucket_step",),
    # buckets
    "enable_bucket": ("buckets",),
    "min_bucket_reso": ("buckets.min_side",),
    "max_bucket_reso": ("buckets.max_side",),
    "bucket_no_upscale": ("buckets.upscale",),
    # images
    "dataset_config": ("dataset.path",),
    "train_data_dir": ("dataset", "dataset.path"),
    "image_dir": ("dataset", "dataset.path"),
    "num_repeats": ("dataset.repeats",),
    "dataset_repeats": ("dataset.repeats",),
    "validation_split": ("dataset.holdout",),
    "validation_seed": ("dataset.holdout_seed",),
    # captions
    "class_tokens": ("captions.trigger",),
    "caption_prefix": ("captions.trigger",),
    "caption_extension": ("captions.extension",),
    "caption_extention": ("captions.extension",),
    "caption_separator": ("captions.separator",),
    "shuffle_caption": ("captions.shuffle",),
    "keep_tokens": ("captions.keep_tokens",),
    "caption_dropout_rate": ("captions.dropout",),
    "caption_tag_dropout_rate": ("captions.tag_dropout",),
    # the network
    "network_module": ("adapter",),
    "network_dim": ("adapter.dim",),
    "network_alpha": ("adapter.alpha",),
    "network_dropout": ("adapter.dropout",),
    "network_args": ("adapter", "adapter.conv_dim", "adapter.conv_alpha", "adapter.unit", "adapter.factor"),
    "network_train_unet_only": ("adapter.text_encoder",),
    # the optimizer
    "optimizer_type": ("optimizer",),
    "use_8bit_adam": ("optimizer",),
    "use_lion_optimizer": ("optimizer",),
    "optimizer_args": ("optimizer.betas", "optimizer.weight_decay", "optimizer.eps", "optimizer.d_coef"),
    "learning_rate": ("optimizer.lr", "optimizer.text_encoder_lr"),
    "unet_lr": ("optimizer.lr",),
    "text_encoder_lr": ("optimizer.text_encoder_lr",),
    "lr_scheduler": ("scheduler",),
    "lr_scheduler_type": ("scheduler",),
    "lr_scheduler_args": ("scheduler.gamma", "scheduler.min_lr", "scheduler.num_cycles"),
    "lr_warmup_steps": ("scheduler.warmup",),
    "lr_scheduler_num_cycles": ("scheduler.num_cycles",),
    "lr_scheduler_min_lr_ratio": ("scheduler.min_lr",),
    # the budget and the numerics
    "max_train_steps": ("train.max_steps",),
    "max_train_epochs": ("train.epochs",),
    "train_batch_size": ("train.batch_size",),
    "batch_size": ("train.batch_size",),
    "gradient_accumulation_steps": ("train.gradient_accumulation",),
    "max_grad_norm": ("train.max_grad_norm",),
    "min_snr_gamma": ("train.min_snr_gamma",),
    "noise_offset": ("train.noise_offset",),
    "mixed_precision": ("train.precision",),
    "seed": ("seed",),
    # brakes
    "scale_weight_norms": ("regularization", "regularization.scale_norm.max_norm"),
    "reg_data_dir": ("regularization", "regularization.reg_images.path"),
    "is_reg": ("regularization", "regularization.reg_images.path"),
    "prior_loss_weight": ("regularization.reg_images.prior_loss_weight",),
}

DEFAULTS: dict[str, Any] = {
    "bucket_reso_steps": 64,
    "enable_bucket": False,
    "min_bucket_reso": 256,
    "max_bucket_reso": 1024,
    "bucket_no_upscale": False,
    "num_repeats": 1,
    "validation_split": 0.0,
    "validation_seed": 0,
    "caption_extension": ".caption",
    "caption_separator": ",",
    "shuffle_caption": False,
    "keep_tokens": 0,
    "caption_dropout_rate": 0.0,
    "caption_tag_dropout_rate": 0.0,
    "network_dim": 4,
    "network_alpha": 1.0,
    "network_train_unet_only": False,
    "optimizer_type": "AdamW",
    "learning_rate": 2e-6,
    "lr_scheduler": "constant",
    "lr_warmup_steps": 0,
    "lr_scheduler_num_cycles": 1,
    "max_train_steps": 1600,
    "train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_grad_norm": 1.0,
    "noise_offset": 0.0,
    "mixed_precision": "no",
    "clip_skip": 1,
    "prior_loss_weight": 1.0,
}

UNSUPPORTED: dict[str, str] = {
    # images
    "color_aug": "images are trained on as they are; their latents are cached",
    "flip_aug": "images are not mirrored: a character's hair and marks have sides",
    "face_crop_aug_range": "crops are centred, and `lorasweep plan` shows them",
    "random_crop": "crops are centred, and `lorasweep plan` shows them",
    "resize_interpolation": "images are resized with Lanczos",
    "in_json": "images with one metadata file are not read; captions are files beside the images",
    "metadata_file": "images with one metadata file are not read; captions are files beside the images",
    "conditioning_data_dir": "there are no masks or control images",
    "masked_loss": "there are no masks: the loss is over the whole picture",
    "alpha_mask": "there are no masks: the loss is over the whole picture",
    "network_multiplier": "an adapter trains at weight 1",
    "custom_attributes": "images have no attributes besides their caption",
    "dataset_class": "a recipe is data, never code",
    # captions
    "caption_suffix": "tags are not added at the end",
    "caption_dropout_every_n_epochs": "captions.dropout is a share of exposures, the same in every epoch",
    "keep_tokens_separator": "captions.keep_tokens counts tags",
    "secondary_separator": "there is one separator",
    "enable_wildcard": "captions are read as they are",
    "token_warmup_step": "all tags are there from the first step",
    "weighted_captions": "(tag:1.2) is read as text, not as a weight",
    "max_token_length": "captions are cut at the text encoder's own 75 tokens",
    # the network
    "network_weights": "an adapter starts from the recipe's seed, never from a file",
    "dim_from_weights": "an adapter starts from the recipe's seed, never from a file",
    "base_weights": "merge them into the base first, and give that as base.path",
    "base_weights_multiplier": "merge them into the base first, and give that as base.path",
    "network_train_text_encoder_only": "the UNet is always trained",
    "vae": "the VAE is the base's own; save base and VAE as one folder",
    # the optimizer
    "lr_decay_steps": "no schedule has a stretch of decay of its own",
    "lr_scheduler_power": "polynomial curves are not there; scheduler=linear is power 1",
    "lr_scheduler_timescale": "inverse square-root curves are not there",
    "optimizer_schedulefree_wrapper": "only optimizer=schedule_free_adamw averages its iterates",
    "schedulefree_wrapper_args": "only optimizer=schedule_free_adamw averages its iterates",
    # noise and loss
    "noise_offset_random_strength": "the noise offset has one strength",
    "adaptive_noise_scale": "the noise offset has one strength",
    "multires_noise_iterations": "pyramid noise is not there",
    "perlin_noise": "Perlin noise is not there",
    "ip_noise_gamma": "input perturbation is not there",
    "zero_terminal_snr": "the noise schedule is the base's own",
    "min_timestep": "timesteps are drawn from all of them",
    "max_timestep": "timesteps are drawn from all of them",
    "loss_type": "the loss is the squared error",
    "scale_v_pred_loss_like_noise_pred": "the loss is not rescaled, but for train.min_snr_gamma",
    "v_pred_like_loss": "the loss is not rescaled, but for train.min_snr_gamma",
    "debiased_estimation_loss": "the loss is not rescaled, but for train.min_snr_gamma",
    # numerics
    "full_fp16": "adapters always train in fp32",
    "full_bf16": "adapters always train in fp32",
    "fp8_base": "the frozen base is fp32, fp16 or bf16",
    "fp8_base_unet": "the frozen base is fp32, fp16 or bf16",
    "resume": "a kohya state cannot be continued; lorasweep continues its own runs",
    "initial_epoch": "a kohya state cannot be continued; lorasweep continues its own runs",
    "initial_step": "a kohya state cannot be continued; lorasweep continues its own runs",
}

# Names inside network_args that change what is learned and have no counterpart.
UNSUPPORTED_NETWORK_ARGS: dict[str, str] = {
    "rank_dropout": "only inputs are dropped, with adapter.dropout",
    "module_dropout": "only inputs are dropped, with adapter.dropout",
    **dict.fromkeys(
        ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
        "there is one rank for all blocks, and one for the convolutions",
    ),
    **dict.fromkeys(
        ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"),
        "there is one learning rate for the whole UNet",
    ),
    **dict.fromkeys(
        ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"),
        "LoRA+ is not there: both factors have one learning rate",
    ),
    **dict.fromkeys(
        ("use_tucker", "use_cp", "use_conv_cp"),
        "convolutions are not Tucker-decomposed; kernels are flattened",
    ),
    "use_scalar": "there is no trained scalar beside the factors",
    "rs_lora": "the scale is alpha / dim; give alpha = dim ** 0.5 * your alpha for the same at the start",
    "train_norm": "norms are not trained",
    "wd_on_output": "DoRA's magnitudes are per output, as in the paper",
    "full_matrix": "a LoKr's larger matrix is whole only where its sides are small",
    "bypass_mode": "that is how the layers compute, not what",
}

# A value that switches an unsupported option off, where that is not false, 0, "" or nothing.
OFF: dict[str, Any] = {
    "loss_type": "l2",
    "max_token_length": 75,
    "network_multiplier": 1.0,
    "lr_scheduler_power": 1,
    "resize_interpolation": "lanczos",
}

_HARMLESS_BY_REASON = {
    "memory and speed only": """
        xformers sdpa mem_eff_attn gradient_checkpointing cpu_offload_checkpointing lowram highvram
        torch_compile dynamo_backend blocks_to_swap fused_backward_pass no_half_vae vae_batch_size
        max_data_loader_n_workers persistent_data_loader_workers ddp_timeout ddp_gradient_as_bucket_view
        ddp_static_graph disable_mmap_load_safetensors text_encoder_batch_size deepspeed zero_stage
        offload_optimizer_device offload_optimizer_nvme_path offload_param_device offload_param_nvme_path
        zero3_init_flag zero3_save_16bit_model fp16_master_weights_and_gradients tokenizer_cache_dir
    """,
    "lorasweep caches by content, by itself": """
        cache_latents cache_latents_to_disk cache_text_encoder_outputs cache_text_encoder_outputs_to_disk
        cache_info skip_cache_check
    """,
    "lorasweep keeps every rung and `lorasweep export` writes the file": """
        output_dir output_name save_model_as save_precision save_every_n_epochs save_every_n_steps
        save_n_epoch_ratio save_last_n_epochs save_last_n_epochs_state save_last_n_steps
        save_last_n_steps_state save_state save_state_on_train_end use_safetensors no_metadata
        training_comment metadata_title metadata_author metadata_description metadata_license metadata_tags
        metadata_usage_hint metadata_thumbnail metadata_merged_from metadata_trigger_phrase
        metadata_preprocessor metadata_is_negative_embedding async_upload huggingface_repo_id
        huggingface_repo_type huggingface_path_in_repo huggingface_token huggingface_repo_visibility
        save_state_to_huggingface resume_from_huggingface skip_until_initial_step
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
    "read from the base's own files": "v2 v_parameterization",
    "only read together with an option that is listed, or not given": """
        token_warmup_min multires_noise_discount huber_schedule huber_c huber_scale
        ip_noise_gamma_random_strength weighting_scheme logit_mean logit_std mode_scale
    """,
    "a switch of the program, not of the training": "config_file output_config debug_dataset",
}
HARMLESS: dict[str, str] = {
    name: reason for reason, names in _HARMLESS_BY_REASON.items() for name in names.split()
}
