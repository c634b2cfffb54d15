"""Fine-tune an open Llama to write SQL.

\b
python finetune.py                 OpenLLaMA-3B over sql-create-context, on XPU, CUDA or CPU
python finetune.py --preset tiny   the whole pipeline on two CPU cores in minutes, no download
python finetune.py --resume        continue a run that was interrupted
accelerate launch finetune.py      on several GPUs, or hosts (docs/scale.md)
"""

from pathlib import Path

from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import Settings
from sqlora.system import distributed, shutdown
from sqlora.system.errors import Interrupted, exit_on_user_error


def main(settings: Settings) -> None:
    """Trains an adapter and writes it to MODEL_PATH. Raises UserError, and Interrupted after an interrupted run."""
    # Here, not above: --help and a wrong flag need no torch.
    distributed.configure_rank()
    from sqlora.system import console

    console.quiet_libraries()
    from sqlora.data import training_rows
    from sqlora.doctor import numerics
    from sqlora.generation import validation_score
    from sqlora.model import adapter, architecture, base_models, loading, merging
    from sqlora.model.backend import backend
    from sqlora.model.device import described_device
    from sqlora.reports import banner, loss_curve, model_card
    from sqlora.storage import atomic, checkpoints
    from sqlora.system import signals
    from sqlora.training import agreement, arguments, memory_estimate, run_folder, sql_trainer
    from sqlora.training.packing import plan

    # 1. Settings: what is read and written, on which device.
    run_folder.check_outputs(settings)
    arguments.check_tracker(settings.REPORT_TO)
    arguments.check_step(settings.step_rows)
    absent = settings.MEMORY and described_device(settings.DEVICE, settings.DTYPE, settings.MEMORY)
    device = absent or loading.choose_device(settings)
    distributed.init_process_group(device.type)
    banner.print_training(settings, device)
    if not absent:
        numerics.quick(device, settings.BACKEND, settings.LOW_BIT, packs=settings.PACKING != "off")

    # 2. Rows: read, checked, split, tokenised.
    rows = training_rows.load(settings)
    base = distributed.local_main_process_first(
        lambda: base_models.find_base_model(settings.BASE_MODEL, weights=not settings.ESTIMATE)
    )
    packing = plan.choose_plan(loading.check_causal(base, settings.MAX_LENGTH), settings, device)
    tokenizer = loading.load_tokenizer(base, settings.prompt_layout)
    tokenised = rows.tokenise(tokenizer, settings)
    banner.print_rows(len(rows.read), rows.checked, rows.overlaps, rows.separated_by, tokenised, settings)
    banner.print_packing(packing)
    if settings.ESTIMATE or device.type == "cpu":  # where a run may take hours
        estimated = memory_estimate.estimate(base, tokenised.train, settings, device, packing)
        banner.print_estimate(estimated, settings.MAX_STEPS)
    if absent:
        changes = memory_estimate.changes_to_fit(base, tokenised.train, settings, device, packing)
        banner.print_fit(device, changes)
    if settings.ESTIMATE:
        return

    with run_folder.locked(settings):
        # 3. Model: the quantised base with a fresh adapter, compared with plain transformers.
        fingerprint = adapter.make_fingerprint(base, tokenizer, settings, rows.origin(settings))
        run_folder.check_alike(fingerprint)
        checkpoint = distributed.broadcast_from_main(
            lambda: run_folder.begin(settings.CHECKPOINT_DIR, settings.RESUME, settings.MAX_STEPS, fingerprint)
        )
        base_model = loading.load_base(base, settings.LOW_BIT, device, training=True)
        architecture.check_tokens(base_model, tokenizer, settings.prompt_layout)
        weights = loading.weights_in_memory(base_model, settings.LOW_BIT)
        fingerprint["quantisation"] = weights
        banner.print_weights(weights)
        if backend.UNPACKS and merging.unpack_small(base_model):
            console.note("its weights are unpacked in memory, which for so small a model is faster")
        model = loading.wrap_with_adapter(base_model, settings)
        run_folder.check_space(model, settings.CHECKPOINT_DIR, settings.SAVE_TOTAL_LIMIT)
        packing = plan.prepare_model(model, packing, device)
        agreement.check_training(model, packing, tokenised.train.rows)
        if settings.START_FROM:
            fingerprint["started_from"] = (
                checkpoints.read_fingerprint(checkpoint)["started_from"]
                if checkpoint
                else adapter.start_from(model, Path(settings.START_FROM), base, tokenizer, settings.prompt_layout)
            )

        # 4. Train.
        stream = rows.stream(tokenizer, settings)
        splits = tokenised.with_training(stream) if stream else tokenised
        scorer = validation_score.make_scorer(model, tokenizer, rows.validation, settings)
        trainer = sql_trainer.SqlTrainer(model, settings, device, base, fingerprint, splits, packing, scorer)
        with signals.graceful(console.note) as trainer.stopping.stop:
            trainer.train(checkpoint)

            # 5. Save: the adapter with its card, and the loss curve.
            folder, run = Path(settings.MODEL_PATH), Path(settings.CHECKPOINT_DIR)
            status = checkpoints.INTERRUPTED if trainer.interrupted else checkpoints.FINISHED
            curve = run / run_folder.CURVE

            def save() -> None:
                with atomic.replacing(folder, last=checkpoints.FINGERPRINT) as partial:
                    adapter.write_adapter(model, partial, base)
                    sealed = checkpoints.seal(partial, fingerprint, status, trainer.run_log.metrics())
                    model_card.write_model_card(partial, sealed)
                title = f"Fine-tuning {model_card.public_name(base.id)}"
                loss_curve.plot_loss_curve(run / run_folder.METRICS, curve, title)

            distributed.broadcast_from_main(save)

    banner.print_end(trainer.run_log.metrics(), status, folder, curve)
    if stream:
        console.print_facts({"stream": stream})
    if trainer.interrupted:
        stopped_by = trainer.stopping.stopped_by
        raise Interrupted(stopped_by, console.resume_hint(f"after step {trainer.state.global_step}"))


if __name__ == "__main__":
    with exit_on_user_error(), shutdown.exit_together():
        main(load_settings(None, __doc__, "finetune.py"))
