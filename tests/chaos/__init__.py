"""A daemon that is broken again and again while clients of both eras check each answer: ``python -m tests.chaos``."""
