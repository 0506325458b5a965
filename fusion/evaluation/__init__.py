"""Quality: data sets with their truth → tables of mIoU, boundary F, seconds and memory; the demo."""
