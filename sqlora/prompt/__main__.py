"""`python -m sqlora.prompt` prints prompts for other programs (docs/serving.md)."""

import json

from sqlora.prompt.template import prompt_of


def main() -> None:
    """Prints the prompts of generate.py, each as a JSON string: a shell would remove the last line break."""
    from sqlora.data.dataset import load_samples, reading_of
    from sqlora.data.fitting import styled
    from sqlora.settings.command_line import load_settings

    settings = load_settings(
        None, "Print the prompt of QUESTION with CONTEXT, or of each row of TEST_DATA, as JSON strings."
    )
    for row in styled(load_samples(settings), settings.SCHEMA_STYLE, reading_of(settings)):
        print(json.dumps(prompt_of(row, settings.prompt_layout)))


if __name__ == "__main__":
    from sqlora.system.errors import exit_on_user_error

    with exit_on_user_error():
        main()
