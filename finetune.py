"""Fine-tune an open Llama to write SQL.

\b
python finetune.py                 OpenLLaMA-3B over sql-create-context, on XPU, CUDA or CPU
python finetune.py --preset tiny   the whole pipeline on two CPU cores in minutes, no download
"""

from pathlib import Path

from sqlora.errors import exit_on_user_error
from sqlora.settings import Settings, load_settings


def main(settings: Settings) -> None:
    # Here, not above: --help and a wrong flag need no torch.
    from sqlora import console

    console.quiet_libraries()
    from sqlora import adapter, backend, data, device, hub, lint, memory, model_card, passes, report, run_folder, split, training

    run_folder.check_outputs(settings)
    training.check_tracker(settings.REPORT_TO)
    chosen = device.choose_device(settings.DEVICE, settings.DTYPE)
    console.print_banner(settings, chosen)

    rows = data.load_training_rows(settings)
    checked = lint.check_rows(rows, settings)
    kept, overlaps = split.hold_out(checked.rows, settings)
    train, validation, apart = split.split_rows(kept, settings.VALIDATION_ROWS, settings.SEED)
    base = hub.find_base_model(settings.BASE_MODEL)
    form = passes.choose_form(backend.check_causal(base, settings.MAX_LENGTH), settings, chosen)
    tokenizer = backend.load_tokenizer(base)
    tokenised = data.tokenise_splits(train, validation, tokenizer, settings)
    console.print_rows(len(rows), checked, overlaps, apart, tokenised, settings)
    console.print_form(form)

    if settings.ESTIMATE:
        console.print_estimate(memory.estimate(base, tokenised.train, settings, chosen, form), settings)
        return

    model = backend.wrap_with_adapter(backend.load_base(base, settings, chosen, training=True), settings)
    run_folder.check_space(model, settings)
    run_folder.set_earlier_run_aside(settings)
    source = {"id": settings.DATA_PATH, "hash": data.data_hash(rows), "rows": len(rows)}
    fingerprint = adapter.make_fingerprint(base, tokenizer, settings, source)
    form = passes.prepare(model, form, chosen)
    trainer = training.SqlTrainer(model, settings, chosen, base, fingerprint, tokenised, form)
    trainer.train()

    folder = Path(settings.MODEL_PATH)
    with adapter.replacing(folder) as partial:
        adapter.write_adapter(model, partial, base)
        model_card.write_model_card(partial, adapter.seal(partial, fingerprint, "finished", trainer.run_log.metrics()))
    run = Path(settings.CHECKPOINT_DIR)
    curve = run / run_folder.CURVE
    report.plot_loss_curve(run / run_folder.METRICS, curve, f"Fine-tuning {model_card.public_name(base.id)}")
    console.print_end(trainer.run_log.metrics(), folder, curve)


if __name__ == "__main__":
    with exit_on_user_error():
        main(load_settings(None, __doc__))
