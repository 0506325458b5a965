"""The vote itself: class-agnostic masks + coarse map of the labels → segmentation with its evidence."""
