"""The same models for several users at once: a line of requests, one worker, cached masks; and all of it behind HTTP.

`service.py` knows nothing of HTTP: a page may share it.
"""
