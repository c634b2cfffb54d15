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

from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import Settings
from sqlora.system import distributed, shutdown
from sqlora.system.errors import exit_on_user_error


def main(settings: Settings) -> int:
    """Returns the exit status: 1 if everything is written and some answers could not be scored, by a fault of this
    program.
    """
    # Here, not above: --help and a wrong flag need no torch.
    distributed.configure_rank()
    from sqlora.system import console

    console.quiet_libraries()
    from sqlora.data import dataset
    from sqlora.evaluation import judge
    from sqlora.generation import answer_journal, answer_writer
    from sqlora.model import adapter, architecture, base_models, loading
    from sqlora.reports import banner, comparison, html_page
    from sqlora.training import run_folder

    run_folder.check_answers(settings)
    if settings.DATABASE:
        from sqlora.ask import questions, shell

        live = questions.connect(settings)
        rows = questions.load_questions(settings)
    else:
        rows = dataset.load_samples(settings)
    chosen = loading.choose_device(settings)
    answer_writer.check_processes()
    distributed.init_process_group(chosen.type)
    folder = None if settings.MODEL == "base" else adapter.find_adapter(settings)
    banner.print_generation(settings, chosen, len(rows))

    base = distributed.local_main_process_first(lambda: base_models.find_base_model(settings.BASE_MODEL))
    loading.check_causal(base)
    tokenizer = loading.load_tokenizer(base)
    if folder:
        fingerprint = adapter.check_adapter(folder, base, tokenizer, settings.PROMPT_ORDER)
    elif settings.MODEL == "both":
        console.note("there is no adapter yet, so only the base model answers; python finetune.py trains one")
    model = loading.load_base(base, settings, chosen, training=False)
    architecture.check_tokens(model, tokenizer)
    put_on = None
    if folder:
        banner.print_adapter(folder, fingerprint, loading.weights_in_memory(model, settings))
        put_on = functools.partial(adapter.load_adapter, folder=folder)
        if settings.DATABASE or settings.MODEL == "adapter" or not adapter.changes_base(folder):
            model, put_on = put_on(model), None

    if settings.DATABASE:
        asker = questions.Asker(live, model, tokenizer, settings)
        if settings.INTERACTIVE:
            shell.talk(asker, settings)
        else:
            questions.answer_questions(
                asker, rows, settings, lambda asked: answer_journal.open_journal(asked, base, folder, settings)
            )
        return 0

    with answer_journal.open_journal(
        [(row["question"], row["context"]) for row in rows], base, folder, settings
    ) as kept:
        answers = answer_writer.answer_rows(model, tokenizer, rows, settings, kept, put_on)
        if answers is None:  # the first of several processes has them
            return 0
        # Written before they are judged, and all is written before any is shown: whatever comes, the answers are there.
        if settings.OUTPUT:
            dataset.write_rows(Path(settings.OUTPUT), answers)
        judged = judge.judge_answers(answers, settings.EVALUATE)
        run = Path(settings.CHECKPOINT_DIR)
        curve = run / run_folder.CURVE
        facts = comparison.answer_facts(answers, judged, base.id, folder)
        html_page.write_page(run / run_folder.PAGE, answers, judged, curve if curve.is_file() else None, facts)
        facts |= {"answers written": kept.pace(), "before/after page": str(run / run_folder.PAGE)}
        if settings.EVALUATE and any(judged):
            facts |= {"evaluation": str(run / run_folder.EVALUATION)}
            comparison.write_evaluation(run / run_folder.EVALUATION, answers, judged)
    kept.remove()

    comparison.print_comparison(answers, judged, console.console)
    if settings.EVALUATE and any(judged):
        comparison.print_card(judged, console.console)
    console.print_facts(facts)
    if failed := judge.failures(verdict for judgement in judged for verdict in judgement.values()):
        console.note(failed)
        return 1
    return 0


if __name__ == "__main__":
    with exit_on_user_error(), shutdown.exit_together():
        status = main(load_settings(None, __doc__, "generate.py", trains=False))
    sys.exit(status)
