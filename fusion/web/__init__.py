"""A page of a browser to segment and correct images with: `emerseg web`.

`edit.py` is the core of correcting, as pure functions; `desk.py` what one page works on, `export.py` its files. They
know nothing of gradio, which `page.py` and `app.py` alone import.
"""
