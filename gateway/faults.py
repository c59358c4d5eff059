"""What may be said of a bug in a log: where it was, never its text, which may quote an answer."""


def where(error: BaseException) -> str:
    """File and line at which an error was raised: what may be logged of a bug."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
