"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in a command, a file or an account, said in one line: what, where, what to do.

    Stages let it rise to :func:`persona_vectors.cli.run`, which prints it and exits with code 2, without a traceback.
    Any other exception is a defect of ours and keeps its traceback.
    """
