"""A shell gives its background jobs an ignored SIGINT, which commands would inherit: the suite runs there as well."""

import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
