"""Fine-tune an open Llama to write SQL.

\b
python finetune.py                 OpenLLaMA-3B over sql-create-context, on XPU, CUDA or CPU
python finetune.py --preset tiny   the whole pipeline on two CPU cores in minutes, no download
python finetune.py --resume        goes on with a run that was interrupted
accelerate launch finetune.py      on several GPUs, or hosts (docs/scale.md)
"""

from pathlib import Path

from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import Settings
from sqlora.system import distributed, shutdown
from sqlora.system.errors import Interrupted, exit_on_user_error


def main(settings: Settings) -> None:
    # Here, not above: --help and a wrong flag need no torch.
    distributed.configure_rank()
    from sqlora.system import console

    console.quiet_libraries()
    from sqlora.data import dataset, split, sql_check, streaming, tokenise
    from sqlora.doctor import numerics
    from sqlora.model import adapter, architecture, base_models, loading
    from sqlora.reports import banner, loss_curve, model_card
    from sqlora.storage import atomic, checkpoints
    from sqlora.system import signals
    from sqlora.training import agreement, arguments, memory_estimate, run_folder, sql_trainer
    from sqlora.training.packing import plan

    run_folder.check_outputs(settings)
    arguments.check_tracker(settings.REPORT_TO)
    arguments.check_batch(settings.BATCH_SIZE)
    chosen = loading.choose_device(settings)
    distributed.init_process_group(chosen.type)
    banner.print_training(settings, chosen)
    numerics.quick(chosen, settings)

    source = streaming.Source(settings) if settings.STREAMING else None
    rows = distributed.local_main_process_first(
        lambda: source.first_rows() if source else dataset.load_training_rows(settings)
    )
    checked = distributed.main_process_first(lambda: sql_check.check_rows(rows, settings))
    kept, overlaps = split.hold_out(checked.rows, settings)
    train, validation, apart = split.split_rows(kept, settings.VALIDATION_ROWS, settings.SEED)
    base = distributed.local_main_process_first(lambda: base_models.find_base_model(settings.BASE_MODEL))
    form = plan.choose_plan(loading.check_causal(base, settings.MAX_LENGTH), settings, chosen)
    tokenizer = loading.load_tokenizer(base)
    tokenised = tokenise.tokenise_splits(train, validation, tokenizer, settings)
    banner.print_rows(len(rows), checked, overlaps, apart, tokenised, settings)
    banner.print_form(form)

    if settings.ESTIMATE:
        banner.print_estimate(memory_estimate.estimate(base, tokenised.train, settings, chosen, form), settings)
        return

    if source:
        tokenised = tokenised.with_training(streaming.Stream(source, validation, apart, tokenizer, settings))
    with run_folder.locked(settings):
        origin = {
            "id": settings.DATA_PATH,
            "hash": source.hash(rows) if source else dataset.data_hash(rows),
            "rows": "streamed" if source else len(rows),
        }
        fingerprint = adapter.make_fingerprint(base, tokenizer, settings, origin)
        run_folder.check_alike(fingerprint)
        checkpoint = distributed.broadcast_from_main(lambda: run_folder.begin(settings, fingerprint))
        model = loading.load_base(base, settings, chosen, training=True)
        architecture.check_tokens(model, tokenizer)
        fingerprint["quantisation"] = loading.weights_in_memory(model, settings)
        banner.print_weights(fingerprint["quantisation"])
        model = loading.wrap_with_adapter(model, settings)
        run_folder.check_space(model, settings)
        form = plan.prepare_model(model, form, chosen)
        agreement.check_training(model, form)
        trainer = sql_trainer.SqlTrainer(model, settings, chosen, base, fingerprint, tokenised, form)
        with signals.graceful(console.note) as trainer.stop:
            trainer.train(checkpoint)

            folder, run = Path(settings.MODEL_PATH), Path(settings.CHECKPOINT_DIR)
            status = checkpoints.INTERRUPTED if trainer.interrupted else checkpoints.FINISHED
            curve = run / run_folder.CURVE

            def save() -> None:
                with atomic.replacing(folder, last=checkpoints.FINGERPRINT) as partial:
                    adapter.write_adapter(model, partial, base)
                    sealed = checkpoints.seal(partial, fingerprint, status, trainer.run_log.metrics())
                    model_card.write_model_card(partial, sealed)
                loss_curve.plot_loss_curve(
                    run / run_folder.METRICS, curve, f"Fine-tuning {model_card.public_name(base.id)}"
                )

            distributed.broadcast_from_main(save)
    banner.print_end(trainer.run_log.metrics(), status, folder, curve)
    if source:
        console.print_facts({"stream": tokenised.train.rows})
    if trainer.interrupted:
        raise Interrupted(trainer.stopped_by, console.resume_hint(f"after step {trainer.state.global_step}"))


if __name__ == "__main__":
    with exit_on_user_error(), shutdown.exit_together():
        main(load_settings(None, __doc__, "finetune.py"))
