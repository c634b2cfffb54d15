"""Write SQL for questions, with the base model, the adapter, or both beside each other.

\b
python generate.py                 every row of TEST_DATA, base and adapter
python generate.py --preset tiny   the same with the demo's model, on two CPU cores
python generate.py --evaluate      and does the SQL give the right rows?
accelerate launch generate.py      on several GPUs; with --resume it goes on where it was cut off
python generate.py --question "How many albums are there?" --context schema.sql
python generate.py --database shop.sqlite --interactive    your own database: ask, see the SQL, see the rows
"""

import functools
import sys
from pathlib import Path

from sqlora import endings, processes
from sqlora.errors import exit_on_user_error
from sqlora.settings import Settings, load_settings


def main(settings: Settings) -> int:
    """Returns the exit status: 1 if everything is written and some answers could not be scored, by a fault of this program."""
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

    run_folder.check_answers(settings)
    if settings.DATABASE:
        from sqlora import asking, shell

        live = asking.connect(settings)
        rows = asking.load_questions(settings)
    else:
        rows = data.load_samples(settings)
    chosen = backend.choose_device(settings)
    generation.check_processes()
    processes.join(chosen.type)
    folder = None if settings.MODEL == "base" else adapter.find_adapter(settings)
    banner.print_generation(settings, chosen, len(rows))

    base = processes.first_on_host(lambda: hub.find_base_model(settings.BASE_MODEL))
    backend.check_causal(base)
    tokenizer = backend.load_tokenizer(base)
    if folder:
        fingerprint = adapter.check_adapter(folder, base, tokenizer, settings.PROMPT_ORDER)
    elif settings.MODEL == "both":
        console.note("there is no adapter yet, so only the base model answers; python finetune.py trains one")
    model = backend.load_base(base, settings, chosen, training=False)
    architecture.check_tokens(model, tokenizer)
    put_on = None
    if folder:
        banner.print_adapter(folder, fingerprint, backend.weights_in_memory(model, settings))
        put_on = functools.partial(adapter.load_adapter, folder=folder)
        if settings.DATABASE or settings.MODEL == "adapter" or not adapter.changes_base(folder):
            model, put_on = put_on(model), None

    if settings.DATABASE:
        asker = asking.Asker(live, model, tokenizer, settings)
        if settings.INTERACTIVE:
            shell.talk(asker, settings)
        else:
            asking.answer_questions(asker, rows, settings, lambda asked: journal.open_journal(asked, base, folder, settings))
        return 0

    with journal.open_journal([(row["question"], row["context"]) for row in rows], base, folder, settings) as kept:
        answers = generation.answer_rows(model, tokenizer, rows, settings, kept, put_on)
        if answers is None:  # the first of several processes has them
            return 0
        # Written before they are judged, and all is written before any is shown: whatever comes, the answers are there.
        if settings.OUTPUT:
            data.write_rows(Path(settings.OUTPUT), answers)
        judged = evaluation.judge_answers(answers, settings.EVALUATE)
        run = Path(settings.CHECKPOINT_DIR)
        curve = run / run_folder.CURVE
        facts = report.answer_facts(answers, judged, base.id, folder)
        page.write_page(run / run_folder.PAGE, answers, judged, curve if curve.is_file() else None, facts)
        facts |= {"answers written": kept.pace(), "before/after page": str(run / run_folder.PAGE)}
        if settings.EVALUATE and any(judged):
            facts |= {"evaluation": str(run / run_folder.EVALUATION)}
            report.write_evaluation(run / run_folder.EVALUATION, answers, judged)
    kept.remove()

    report.print_comparison(answers, judged, console.console)
    if settings.EVALUATE and any(judged):
        report.print_card(judged, console.console)
    console.print_facts(facts)
    if failed := evaluation.failures(verdict for judgement in judged for verdict in judgement.values()):
        console.note(failed)
        return 1
    return 0


if __name__ == "__main__":
    with exit_on_user_error(), endings.one_voice():
        status = main(load_settings(None, __doc__, trains=False))
    sys.exit(status)
