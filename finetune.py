"""Fine-tune an open Llama to write SQL.

\b
python finetune.py                 OpenLLaMA-3B over sql-create-context, on XPU, CUDA or CPU
python finetune.py --preset tiny   the whole pipeline on two CPU cores in minutes, no download
python finetune.py --resume        goes on with a run that was interrupted
accelerate launch finetune.py      on several GPUs, or hosts (docs/scale.md)
"""

from pathlib import Path

from sqlora import endings, processes
from sqlora.errors import Interrupted, exit_on_user_error
from sqlora.settings import Settings, load_settings


def main(settings: Settings) -> None:
    # Here, not above: --help and a wrong flag need no torch.
    processes.begin()
    from sqlora import console

    console.quiet_libraries()
    from sqlora import (
        adapter,
        agreement,
        architecture,
        arguments,
        atomic,
        backend,
        banner,
        checkpoints,
        checks,
        data,
        hub,
        interrupts,
        lint,
        memory,
        model_card,
        passes,
        report,
        run_folder,
        split,
        streaming,
        training,
    )

    run_folder.check_outputs(settings)
    arguments.check_tracker(settings.REPORT_TO)
    arguments.check_batch(settings.BATCH_SIZE)
    chosen = backend.choose_device(settings)
    processes.join(chosen.type)
    banner.print_training(settings, chosen)
    checks.quick(chosen, settings)

    source = streaming.Source(settings) if settings.STREAMING else None
    rows = processes.first_on_host(lambda: source.first_rows() if source else data.load_training_rows(settings))
    checked = processes.first_of_all(lambda: lint.check_rows(rows, settings))
    kept, overlaps = split.hold_out(checked.rows, settings)
    train, validation, apart = split.split_rows(kept, settings.VALIDATION_ROWS, settings.SEED)
    base = processes.first_on_host(lambda: hub.find_base_model(settings.BASE_MODEL))
    form = passes.choose_form(backend.check_causal(base, settings.MAX_LENGTH), settings, chosen)
    tokenizer = backend.load_tokenizer(base)
    tokenised = data.tokenise_splits(train, validation, tokenizer, settings)
    banner.print_rows(len(rows), checked, overlaps, apart, tokenised, settings)
    banner.print_form(form)

    if settings.ESTIMATE:
        banner.print_estimate(memory.estimate(base, tokenised.train, settings, chosen, form), settings)
        return

    if source:
        tokenised = tokenised.with_training(streaming.Stream(source, validation, apart, tokenizer, settings))
    with run_folder.locked(settings):
        origin = {"id": settings.DATA_PATH, "hash": source.hash(rows) if source else data.data_hash(rows),
                  "rows": "streamed" if source else len(rows)}
        fingerprint = adapter.make_fingerprint(base, tokenizer, settings, origin)
        run_folder.check_alike(fingerprint)
        checkpoint = processes.of_first(lambda: run_folder.begin(settings, fingerprint))
        model = backend.load_base(base, settings, chosen, training=True)
        architecture.check_tokens(model, tokenizer)
        fingerprint["quantisation"] = backend.weights_in_memory(model, settings)
        banner.print_weights(fingerprint["quantisation"])
        model = backend.wrap_with_adapter(model, settings)
        run_folder.check_space(model, settings)
        form = passes.prepare(model, form, chosen)
        agreement.check_training(model, form)
        trainer = training.SqlTrainer(model, settings, chosen, base, fingerprint, tokenised, form)
        with interrupts.graceful(console.note) as trainer.stop:
            trainer.train(checkpoint)

            folder, run = Path(settings.MODEL_PATH), Path(settings.CHECKPOINT_DIR)
            status = checkpoints.INTERRUPTED if trainer.interrupted else checkpoints.FINISHED
            curve = run / run_folder.CURVE

            def save() -> None:
                with atomic.replacing(folder, last=checkpoints.FINGERPRINT) as partial:
                    adapter.write_adapter(model, partial, base)
                    sealed = checkpoints.seal(partial, fingerprint, status, trainer.run_log.metrics())
                    model_card.write_model_card(partial, sealed)
                report.plot_loss_curve(run / run_folder.METRICS, curve, f"Fine-tuning {model_card.public_name(base.id)}")

            processes.of_first(save)
    banner.print_end(trainer.run_log.metrics(), status, folder, curve)
    if source:
        console.print_facts({"stream": tokenised.train.rows})
    if trainer.interrupted:
        raise Interrupted(trainer.stopped_by, console.how_to_resume(f"after step {trainer.state.global_step}"))


if __name__ == "__main__":
    with exit_on_user_error(), endings.one_voice():
        main(load_settings(None, __doc__))
