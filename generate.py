"""Write SQL for questions, with the base model, the adapter, or both beside each other.

\b
python generate.py                 every row of TEST_DATA, base and adapter
python generate.py --preset tiny   the same with the demo's model, on two CPU cores
python generate.py --evaluate      and does the SQL give the right rows?
accelerate launch generate.py      on several GPUs; with --resume it goes on where it was cut off
python generate.py --question "How many albums are there?" --context schema.sql
python generate.py --database shop.sqlite --interactive    your own database: ask, see the SQL, see the rows
"""

from pathlib import Path

from sqlora import endings, processes
from sqlora.errors import exit_on_user_error
from sqlora.settings import Settings, load_settings


def main(settings: Settings) -> None:
    # Here, not above: --help and a wrong flag need no torch.
    processes.begin()
    from sqlora import console

    console.quiet_libraries()
    from sqlora import (
        adapter,
        architecture,
        backend,
        banner,
        data,
        evaluation,
        generation,
        hub,
        journal,
        page,
        report,
        run_folder,
    )

    if settings.DATABASE:
        from sqlora import asking, shell

        live = asking.connect(settings)
        rows = asking.load_questions(settings)
    else:
        rows = data.load_samples(settings)
    run_folder.check_writable(Path(settings.CHECKPOINT_DIR), "CHECKPOINT_DIR")
    if settings.OUTPUT:
        run_folder.check_output_file(Path(settings.OUTPUT), "OUTPUT")
    chosen = backend.choose_device(settings)
    generation.check_processes()
    processes.join(chosen.type)
    folder = None if settings.MODEL == "base" else adapter.find_adapter(settings)
    banner.print_generation(settings, chosen, len(rows))

    base = processes.first_on_host(lambda: hub.find_base_model(settings.BASE_MODEL))
    backend.check_causal(base)
    tokenizer = backend.load_tokenizer(base)
    if folder:
        banner.print_adapter(folder, adapter.check_adapter(folder, base, tokenizer, settings.PROMPT_ORDER), settings)
    elif settings.MODEL == "both":
        console.note("there is no adapter yet, so only the base model answers; python finetune.py trains one")
    model = backend.load_base(base, settings, chosen, training=False)
    architecture.check_tokens(model, tokenizer)
    if folder:
        model = adapter.load_adapter(model, folder)

    if settings.DATABASE:
        answer = shell.talk if settings.INTERACTIVE else asking.answer_questions
        answer(asking.Asker(live, model, tokenizer, settings), rows, settings)
        return

    with journal.open_journal(rows, base, folder, settings) as kept:
        answers = generation.answer_rows(model, tokenizer, rows, settings, kept)
    if answers is None:  # the first of several processes has them
        return
    judged = evaluation.judge_answers(answers, settings.EVALUATE)

    report.print_comparison(answers, judged, console.console)
    if settings.OUTPUT:
        data.write_rows(Path(settings.OUTPUT), answers)
    run = Path(settings.CHECKPOINT_DIR)
    curve = run / run_folder.CURVE
    facts = report.answer_facts(answers, judged, base.id, folder)
    page.write_page(run / run_folder.PAGE, answers, judged, curve if curve.is_file() else None, facts)
    facts |= {"answers written": kept.pace(), "before/after page": str(run / run_folder.PAGE)}
    if settings.EVALUATE and any(judged):
        facts |= {"evaluation": str(run / run_folder.EVALUATION)}
        report.write_evaluation(run / run_folder.EVALUATION, answers, judged)
        report.print_card(judged, console.console)
    console.print_facts(facts)
    kept.remove()


if __name__ == "__main__":
    with exit_on_user_error(), endings.one_voice():
        main(load_settings(None, __doc__, trains=False))
