"""Adapting a preset to a user's own images: the trainers behind one function, `recipe.adapt`.

folder → what is said of its images (folder) → a tenth held out, copies (split) → words and masks trained, each measured
before and after (words, masks, labels) → a preset with weights, a card and a report (report, result).
"""
