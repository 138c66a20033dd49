"""What other programs call our settings.

Names of guided-diffusion, MedSegDiff, nnU-Net, MONAI, Lightning, Optuna, Ray Tune and W&B sweeps.
"""

from collections.abc import Collection

OTHER_NAMES = {
    "batch.effective": "batch_size bs batchsize train_batch_size global_batch_size effective_batch "
    "total_batch_size",
    "batch.micro": "microbatch micro_batch micro_batch_size minibatch per_device_batch_size "
    "accumulate_grad_batches gradient_accumulation grad_accum",
    "optimizer.lr": "learning_rate learningrate initial_lr base_lr alpha eta0",
    "optimizer.weight_decay": "wd l2 decay",
    "optimizer.lr_schedule": "lr_scheduler lr_anneal lr_anneal_steps lr_policy lr_decay",
    "optimizer.warmup_images": "warmup warmup_steps warmup_epochs num_warmup_steps",
    "optimizer.clip_norm": "grad_clip gradient_clip gradient_clip_val max_grad_norm clip_grad",
    "optimizer.ema_half_life_images": "ema ema_rate ema_decay ema_beta",
    "model.width": "channels num_channels base_channels model_channels features num_features "
    "init_features filters dim base_dim hidden_size",
    "model.depth": "channel_mult num_levels levels n_layers num_layers layers num_stages",
    "model.num_res_blocks": "res_blocks n_res_blocks num_blocks",
    "model.attention_levels": "attention_resolutions attn_resolutions attention",
    "model.dropout": "drop drop_rate dropout_rate p_dropout",
    "model.family": "arch architecture network net model_name backbone version",
    "diffusion.num_timesteps": "diffusion_steps timesteps n_timesteps num_train_timesteps t",
    "diffusion.noise_schedule": "beta_schedule noise schedule betas",
    "diffusion.target": "predict_xstart parameterization prediction_type objective_type pred_type",
    "diffusion.variance": "learn_sigma learned_variance",
    "diffusion.timestep_sampling": "schedule_sampler",
    "sampling.timestep_respacing": "sampling_steps num_inference_steps ddim_steps inference_steps "
    "sample_steps num_sampling_steps steps",
    "sampling.num_ensemble": "ensemble ensembles n_ensemble num_samples ensemble_size",
    "sampling.method": "sampler_type use_ddim ddim dpm_solver solver",
    "data.modalities": "modality channel_names sequences inputs contrasts",
    "data.store": "data_dir dataset dataset_path data_path root store data_root",
    "data.windows": "window hu_window windowing intensity_range",
    "data.augment": "augmentation augmentations transforms aug",
    "data.fold": "fold val_fold",
    "data.foreground_fraction": "oversample_foreground_percent oversampling foreground",
    "loss.dice": "dice_weight lambda_dice dice_loss",
    "loss.bce": "bce_weight lambda_bce bce_loss cross_entropy ce",
    "loss.weighting": "loss_weighting",
    "validation.every": "val_every eval_every val_interval check_val_every_n_epoch",
    "precision": "fp16 use_fp16 bf16 amp mixed_precision dtype",
    "num_threads": "threads num_workers workers",
    "init_from": "resume_checkpoint checkpoint pretrained weights resume ckpt load_from",
    "gradient_checkpointing": "use_checkpoint activation_checkpointing",
    "epoch_images": "images_per_epoch samples_per_epoch num_iterations_per_epoch",
    "scheduler.max_t": "epochs num_epochs max_epochs n_epochs max_resource max_iter epoch",
    "epochs": "num_epochs max_epochs n_epochs epoch iterations max_steps",
    "scheduler.grace_period": "min_t min_resource min_epochs",
    "scheduler.reduction_factor": "eta reduction",
    "trials.num_trials": "n_trials trials num_samples max_trials max_evals count",
    "trials.gpus_per_trial": "gpus num_gpus gpu n_gpus resources_per_trial",
    "trials.cpus_per_trial": "cpus num_cpus cpu",
    "sampler.num_startup_trials": "n_startup_trials n_initial_points startup_trials",
    "sampler.type": "search_alg search_algorithm algorithm method",
    "stall.patience": "patience early_stopping early_stopping_patience",
    "stall.min_delta": "min_delta",
    "budget.wall_hours": "timeout time_limit max_time time_budget hours time_budget_s",
    "budget.gpu_hours": "gpu_budget",
    "objective.metric": "metric monitor",
    "objective.mode": "mode direction goal",
    "references": "baselines reference baseline",
    "enqueue": "points_to_evaluate initial_params enqueue_trials start_points",
    "study": "name study_name experiment experiment_name project",
    "space": "search_space parameters param_space hyperparameters config search",
    "seed": "random_seed random_state manual_seed",
    "device": "accelerator",
    "low": "min lower lower_bound minimum start from",
    "high": "max upper upper_bound maximum stop to end",
    "choices": "values options categories categorical list",
    "step": "q",
    "log": "log_scale scale",
    "type": "distribution dist kind",
    "float": "uniform loguniform log_uniform log_uniform_values quniform qloguniform real double "
    "log normal number",
    "int": "integer randint lograndint int_uniform q_uniform",
    "categorical": "choice choices category cat grid grid_search bool enum",
}
"""For each of our names, of keys and of a dimension's types, those elsewhere."""


def meant_by(name: str, valid: Collection[str]) -> list[str]:
    """Return the valid names, perhaps below `train`, for what another program calls so.

    Its last part counts: `model.batch_size` is a batch_size.
    """
    leaf = name.rsplit(".", 1)[-1].lower().replace("-", "_")
    ours = [name, *(ours for ours, others in OTHER_NAMES.items() if leaf in others.split())]
    return [each for one in ours for each in (one, f"train.{one}") if each in valid]
