from mp.finetune import command  # noqa: F401
