from mp.meta import command  # noqa: F401
